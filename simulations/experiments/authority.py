"""Where Algorithm 1's branch below its band, negatives only, raises entropy, and where it only brakes its fall."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import tree_of
from simulations.experiment import Cell, Experiment, Panel, Rows, mean_and_interval
from simulations.favouring import at_accuracy
from simulations.ledger import ledger
from simulations.loop import Setting, Simulation, generators
from simulations.optimizers import SGD, Adam, Optimizer
from simulations.policies import MLP, Policy, Table, Tree
from simulations.problems import Problem, bandit, sequences
from trainer.methods.assembly import assemble
from trainer.methods.schedules import Constant

BRANCHES = ("grpo", "negatives", "positives")
EFFECTS = {"raises": 2, "brakes": 1, "no effect": 0, "lowers faster": -1}
REUSE = {"once": (1, "ppo"), "reused, clipped": (4, "ppo"), "reused, unclipped": (4, "unclipped")}
OPTIMIZERS: dict[str, Optimizer] = {"sgd": SGD(), "adam": Adam()}
POLICIES = ("table", "mlp", "tree")


@dataclass(frozen=True)
class Options:
    """Grid and sizes.

    Args:
        seed: of first parameters, rewards and draws.
        repeats: runs of every setting.
        steps: over which the slope is taken.
        prompts: P.
        arms: V of the bandits.
        correct: arms with reward 1.
        vocabulary: V of the tree.
        length: T of the tree.
        correct_share: of the tree's sequences with reward 1.
        hidden: units of the MLP.
        group_size: G.
        batches: prompts of a step.
        accuracies: expected reward of the first policies, reached by logits in favour of right answers.
        sgd_rates: learning rates; of one context's logits in table and tree, of the parameters in the MLP.
        adam_rates: learning rates of all parameters.
    """

    seed: int = 0
    repeats: int = 16
    steps: int = 8
    prompts: int = 16
    arms: int = 20
    correct: int = 5
    vocabulary: int = 4
    length: int = 3
    correct_share: float = 0.2
    hidden: int = 16
    group_size: int = 8
    batches: tuple[int, ...] = (4, 16)
    accuracies: tuple[float, ...] = (0.1, 0.5, 0.9)
    sgd_rates: tuple[float, ...] = (0.03, 0.3, 3.0)
    adam_rates: tuple[float, ...] = (0.003, 0.03, 0.3)

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise ValueError(f"--repeats {self.repeats} must be at least 2: slopes need a standard error.")
        if not all(0 < value < 1 for value in self.accuracies):
            raise ValueError(f"--accuracies {list(self.accuracies)} must be above 0 and below 1.")


def cells(options: Options) -> list[Cell]:
    """Return a cell for each setting; its learning rates run side by side."""
    return [
        Cell(
            f"{optimizer}_{policy}_{accuracy:g}_{batch}_{reuse.replace(', ', '_')}",
            partial(run, optimizer, policy, accuracy, batch, reuse, options),
        )
        for optimizer in OPTIMIZERS
        for policy in POLICIES
        for accuracy in options.accuracies
        for batch in options.batches
        for reuse in REUSE
    ]


def run(optimizer: str, policy: str, accuracy: float, batch: int, reuse: str, options: Options) -> Rows:
    """Run the three branches from the same first parameters, with the same draws."""
    rates = torch.tensor(options.sgd_rates if optimizer == "sgd" else options.adam_rates, dtype=torch.float64)
    found: dict[str, Tensor] = {}
    for branch in BRANCHES:
        setting = built(optimizer, policy, accuracy, batch, reuse, branch, rates, options)
        found |= measured(setting, branch, len(rates) * options.repeats, options.seed)
    rows = []
    for index in range(len(rates) * options.repeats):
        rows.append(
            {
                "optimizer": optimizer,
                "policy": policy,
                "accuracy": accuracy,
                "batch": batch,
                "reuse": reuse,
                "rate": float(rates[index // options.repeats]),
                "repeat": index % options.repeats,
                **{name: float(value[index]) for name, value in found.items()},
            }
        )
    return rows


def built(
    optimizer: str,
    policy: str,
    accuracy: float,
    batch: int,
    reuse: str,
    branch: str,
    rates: Float[Tensor, " L"],
    options: Options,
) -> Setting:
    """Return the runs of one branch."""
    favouring, problem = base(policy, accuracy, options)
    epochs, clip = REUSE[reuse]
    # A mean over prompts and tokens moves the logits of one context of a table by a P T-th of the rate.
    unit = favouring.prompts * favouring.length if optimizer == "sgd" and policy != "mlp" else 1
    # Algorithm 1 takes negatives only far below its band, positives only far above it.
    edge = {"grpo": 0.0, "negatives": 1e3, "positives": 0.0}[branch]
    stages = {"clip": clip, "filter": "none" if branch == "grpo" else "algorithm1", "denominator": "drop"}
    return Setting(
        policy=favouring,
        problem=problem,
        algorithm=assemble(stages, group_size=options.group_size, updates=epochs),
        steps=options.steps,
        learning_rate=(rates * unit).repeat_interleave(options.repeats),
        optimizer=OPTIMIZERS[optimizer],
        group_size=options.group_size,
        prompts_per_step=None if batch == options.prompts else batch,
        epochs=epochs,
        schedule=Constant((edge, edge), (edge, edge)),
        measure=False,
    )


@lru_cache(maxsize=64)
def base(name: str, accuracy: float, options: Options) -> tuple[Policy, Problem]:
    """Return a policy whose first expected reward, mean over prompts and repeats, is the accuracy; and its rewards."""
    generator = torch.Generator().manual_seed(options.seed)
    policy: Policy
    if name == "tree":
        problem = sequences(
            options.prompts, options.vocabulary, options.length, options.correct_share, generator=generator
        )
        policy = Tree(options.prompts, options.vocabulary, options.length)
    else:
        problem = bandit(options.prompts, options.arms, options.correct, generator=generator)
        features = torch.randn(options.prompts, 8, generator=generator, dtype=torch.float64)
        features = features / features.norm(dim=-1, keepdim=True)
        policy = (
            Table(options.prompts, options.arms) if name == "table" else MLP(features, options.arms, options.hidden)
        )
    parameters = policy.start(options.repeats, generator=generators(options.seed)[0])
    return at_accuracy(policy, problem, parameters, accuracy), problem


def measured(setting: Setting, branch: str, repeats: int, seed: int) -> dict[str, Float[Tensor, " R"]]:
    """Return the mean change of exact entropy a step, and the ledger's causes of it."""
    runs = Simulation(setting, repeats, seed=seed, trace=True)
    with torch.no_grad():
        first = tree_of(setting.policy, runs.state.parameters)
    found = {"entropy": first.entropy(), "reward": first.expected(runs.rewards)}
    causes: dict[str, Tensor] = {}
    for step in runs:
        assert step.trace is not None
        book = ledger(setting, step.trace)
        for name, value in {**book.causes, "context_shift": book.context_shift}.items():
            causes[name] = causes.get(name, 0) + value / setting.steps
    with torch.no_grad():
        last = tree_of(setting.policy, runs.state.parameters)
    found[branch] = (last.entropy() - first.entropy()) / setting.steps
    found[f"{branch}_reward"] = (last.expected(runs.rewards) - found["reward"]) / setting.steps
    return found | {f"{branch}_{name}": value for name, value in causes.items()}


CELL = ["optimizer", "policy", "accuracy", "batch", "reuse", "rate"]
CAUSES = (
    "covariance", "sampling", "selection", "shared", "terms", "clip_and_reuse", "optimizer", "second_order",
    "unexplained", "context_shift",
)  # fmt: skip


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return every setting's slopes and effect, the maps, how often each effect occurs, and two settings' ledgers."""
    rows = rows.assign(gain=rows.negatives - rows.grpo)
    settings = rows.groupby(CELL, sort=False)[["entropy", "reward"]].mean().reset_index()
    for name in (*BRANCHES, "gain"):
        found = mean_and_interval(rows, CELL, name)
        settings[name], settings[f"{name}_error"] = found[name], found.error
    settings["effect"] = effects(settings)
    settings["code"] = settings.effect.map(EFFECTS)
    settings["column"] = settings.reuse + ", rate " + settings.rate.map("{:g}".format)
    accuracy, batch = settings.accuracy.map("{:g}".format), settings.batch.astype(str)
    settings["row"] = settings.policy + ", accuracy " + accuracy + ", batch " + batch
    counts = settings.groupby(["optimizer", "effect"]).size().rename("cells").reset_index()
    counts["share"] = counts.cells / counts.groupby("optimizer").cells.transform("sum")
    books = ledgers(rows, settings)
    return {
        "settings": settings,
        **{f"map_{name}": settings[settings.optimizer == name] for name in OPTIMIZERS},
        "counts": counts,
        "factors": factors(settings),
        "ledgers": books,
        "ledger_bars": books[books.branch == "negatives"],
    }


def effects(settings: pd.DataFrame) -> pd.Series:
    """Return what negatives-only does in each setting, beyond 2 standard errors.

    raises: its slope is above 0; brakes: it is above GRPO's; lowers faster: it is below GRPO's; else no effect.
    """
    found = pd.Series("no effect", settings.index)
    found[settings.gain < -2 * settings.gain_error] = "lowers faster"
    found[settings.gain > 2 * settings.gain_error] = "brakes"
    found[settings.negatives > 2 * settings.negatives_error] = "raises"
    return found


def factors(settings: pd.DataFrame) -> pd.DataFrame:
    """Return the share of settings with each effect, for every level of every factor; rates an optimiser."""
    parts = []
    for factor in CELL:
        level = settings[factor].astype(str)
        if factor == "rate":
            level = settings.optimizer + " " + level
        shares = settings.groupby(level, sort=False).effect.value_counts(normalize=True).unstack(fill_value=0)
        shares = shares.reindex(index=level.unique(), columns=list(EFFECTS), fill_value=0.0)
        shares.insert(0, "level", shares.index)
        shares.insert(0, "factor", factor)
        shares["settings"] = level.value_counts()
        parts.append(shares.reset_index(drop=True))
    return pd.concat(parts, ignore_index=True)


def ledgers(rows: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """Return the causes of the slopes of one setting that raises and one that brakes, an optimiser.

    Of those where GRPO lowers entropy: the ones whose effect is surest, in standard errors.
    """
    lowered = settings[settings.grpo < -2 * settings.grpo_error]
    parts = []
    for effect, name in (("raises", "negatives"), ("brakes", "gain")):
        for optimizer, there in lowered[lowered.effect == effect].groupby("optimizer", sort=False):
            chosen = there.iloc[(there[name] / there[f"{name}_error"]).argmax()]
            part = rows[(rows[CELL] == chosen[CELL]).all(axis=1)]
            parts += [
                {
                    "effect": effect,
                    **chosen[CELL].to_dict(),
                    "branch": branch,
                    "cause": cause,
                    "value": part[f"{branch}_{cause}"].mean(),
                    "error": part[f"{branch}_{cause}"].sem(),
                    "label": f"{effect}, {optimizer}: {branch}",
                }
                for branch in ("grpo", "negatives")
                for cause in CAUSES
            ]
    found = pd.DataFrame(parts, columns=["effect", *CELL, "branch", "cause", "value", "error", "label"])
    return found.assign(low=found.value - 2 * found.error, high=found.value + 2 * found.error)


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return how many settings have each effect, under which conditions, and what causes one of each."""
    settings = found["settings"]
    raising, braking = settings[settings.effect == "raises"], settings[settings.effect == "brakes"]
    verdict = "holds" if len(raising) == len(settings) else "holds in part" if len(raising) else "does not hold"
    lines = [
        f"The claim {verdict}: negatives only {told(settings)} (each beyond 2 standard errors; where a slope is 0, "
        "chance alone puts about 3 % of settings there)."
    ]
    lines += [f"{name}: {told(part)}." for name, part in settings.groupby("optimizer", sort=False)]
    alike = int((raising.grpo > 2 * raising.grpo_error).sum())
    against = int((raising.grpo < -2 * raising.grpo_error).sum())
    lines.append(
        f"Where it raises entropy, GRPO on all samples raises it too in {alike} of {len(raising)} settings and lowers "
        f"it in {against}; the median slope is {raising.negatives.median():+.5f} nats a step. Where it brakes, the "
        f"median slope is {braking.negatives.median():+.5f} against {braking.grpo.median():+.5f}."
    )
    lowered = settings[settings.grpo < -2 * settings.grpo_error]
    lines.append(f"Where GRPO lowers entropy, negatives only {told(lowered)}.")
    for factor, part in found["factors"].groupby("factor", sort=False):
        levels = "; ".join(f"{row.level} {row.raises:.0%} / {row.brakes:.0%}" for row in part.itertuples())
        lines.append(f"Share that raises / brakes by {factor}: {levels}.")
    return lines + [book(part) for _, part in found["ledgers"].groupby(["effect", "optimizer"], sort=False)]


def book(part: pd.DataFrame) -> str:
    """Return a setting's ledger as text, with the cause that most sets negatives apart from all samples."""
    first = part.iloc[0]
    where = ", ".join(f"{name} {first[name]}" for name in CELL)
    value = part.pivot(index="cause", columns="branch", values="value").loc[list(CAUSES)]
    error = part.pivot(index="cause", columns="branch", values="error").loc[list(CAUSES)]
    cause = str((value.negatives if first.effect == "raises" else value.negatives - value.grpo).idxmax())
    told = value[value.abs().max(axis=1) > 0.01 * value.abs().to_numpy().max()]
    split = ", ".join(f"{name} {row.negatives:+.5f} ({row.grpo:+.5f})" for name, row in told.iterrows())
    verb = "raises it" if first.effect == "raises" else "brakes"
    return (
        f"Ledger of the surest setting that {first.effect} where GRPO lowers ({where}), nats a step with negatives "
        f"(and all samples): {value.negatives.sum():+.5f} ({value.grpo.sum():+.5f}) = {split}, causes above 1 % of the "
        f"largest. What {verb} most is {cause}, {value.negatives[cause]:+.5f} +- {error.negatives[cause]:.5f} "
        f"({value.grpo[cause]:+.5f} +- {error.grpo[cause]:.5f})."
    )


def told(settings: pd.DataFrame) -> str:
    """Return the counts of the effects as text."""
    count = settings.effect.value_counts().reindex(list(EFFECTS), fill_value=0)
    return (
        f"raises entropy in {count['raises']} of {len(settings)} settings, brakes its fall in {count['brakes']}, has "
        f"no effect in {count['no effect']}, lowers it faster than GRPO in {count['lowers faster']}"
    )


EXPERIMENT = Experiment(
    name="authority",
    claim="Below its band, Algorithm 1 (negatives only) raises entropy.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        *(
            Panel(
                f"{title}: 2 raises, 1 brakes, 0 neither, -1 lowers faster than GRPO",
                f"map_{name}",
                "column",
                "row",
                kind="map",
                value="code",
                value_label="effect",
                x_label="use of a batch, learning rate",
                y_label="policy, base accuracy, prompts a step",
            )
            for name, title in (("sgd", "SGD"), ("adam", "Adam"))
        ),
        *(
            Panel(
                f"{title}: slope, negatives only (nats a step)",
                f"map_{name}",
                "column",
                "row",
                kind="map",
                value="negatives",
                value_label="nats a step",
                x_label="use of a batch, learning rate",
                y_label="policy, base accuracy, prompts a step",
            )
            for name, title in (("sgd", "SGD"), ("adam", "Adam"))
        ),
        Panel("Share of settings with each effect", "counts", "effect", "share", kind="bar", by="optimizer"),
        Panel(
            "Causes with negatives only, surest settings",
            "ledger_bars",
            "cause",
            "value",
            kind="bar",
            by="label",
            low="low",
            high="high",
            y_label="nats a step",
            zero=True,
        ),
    ),
)
