"""Why GRPO's entropy falls: what its positive and its negative part do at first order, and on which tokens they act."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from simulations import exact
from simulations.exact import expected_advantages, policy_gradient, tree_of
from simulations.experiment import Cell, Experiment, Panel, Rows, mean_and_interval
from simulations.ledger import inner
from simulations.loop import Setting, Simulation, Trace
from simulations.networks import Recurrent
from simulations.policies import Parameters, Policy, Table, Tree
from simulations.problems import Problem
from simulations.starts import liked_problem, logit_scale
from simulations.summaries import each, mean_error, ratio_error, records, text
from trainer.methods.assembly import assemble
from trainer.methods.recipes import RECIPES

LANGUAGE_MODEL_RATIO = 4.0  # of the two parts, measured on a small language model at 0.64 nats and 10 % success


@dataclass(frozen=True)
class Start:
    """A first policy and its problem.

    Args:
        policy: a table of bandits; a tree of responses of 3 tokens, logits of its own after every prefix; or a
            recurrent network that writes such responses, all parameters shared.
        share: entropy of the first policy over that of a uniform one.
        correct: share of right answers at the first and at the last prompt.
        liking: how much right answers are likelier to be likely ones; 0 not at all.
        rate: times the learning rate: a shared parameter moves many tokens.
    """

    policy: Literal["table", "tree", "network"]
    share: float
    correct: tuple[float, float]
    liking: float = 0.0
    rate: float = 1.0


# The last three are as a language model before RL: 0.64 nats, 16 % success, and likely answers right more often.
STARTS = {
    "flat": Start("table", 0.87, (0.05, 0.5)),
    "flat_easy": Start("table", 0.87, (0.5, 0.95)),
    "peaked": Start("table", 0.21, (0.05, 0.5)),
    "competent": Start("table", 0.21, (0.05, 0.1), liking=0.1),
    "tree": Start("tree", 0.46, (0.016, 0.094), liking=0.2),
    "network": Start("network", 0.46, (0.016, 0.094), liking=0.2, rate=0.05),
}
TOKENS = 3
NETWORK_SCALE = 2.65  # of a network's output weights, at which its entropy is 0.46 of log 4
# Positives only against negatives only: optimiser passes over a batch, the denominator, and times the learning rate.
VARIANTS = {
    "small steps": (1, "zero", 1.0),
    "large steps": (1, "zero", 10.0),
    "4 passes": (4, "zero", 1.0),
    "over the kept": (1, "drop", 1.0),
}


@dataclass(frozen=True)
class Options:
    """Sizes of the bandits, of the tree and of the network.

    Args:
        seed: of first parameters and draws.
        repeats: runs of each cell.
        prompts: of the bandits; the tree has half of them and the network a quarter.
        arms: of a bandit.
        vocabulary: of tree and network, whose responses have 3 tokens.
        group_size: G.
        learning_rate: of a token's logits per unit of its advantage.
        steps: of a run of GRPO; the runs of positives or negatives alone go on for the same time.
        every: steps between records.
    """

    seed: int = 0
    repeats: int = 16
    prompts: int = 64
    arms: int = 20
    vocabulary: int = 4
    group_size: int = 8
    learning_rate: float = 0.1
    steps: int = 200
    every: int = 5


def cells(options: Options) -> list[Cell]:
    """Return a cell of GRPO a start, and one of positives against negatives a start and variant."""
    found = [Cell(f"grpo_{name}", partial(run_grpo, name, options)) for name in STARTS]
    for name in STARTS:
        for variant in VARIANTS:
            key = f"sides_{name}_{variant.replace(' ', '_')}"
            found.append(Cell(key, partial(run_sides, name, variant, options)))
    return found


def first(name: str, options: Options) -> tuple[Policy, Problem]:
    """Return the policy and the problem of a start."""
    start = STARTS[name]
    vocabulary = options.arms if start.policy == "table" else options.vocabulary
    scale = logit_scale(start.share * float(np.log(vocabulary)), vocabulary)
    policy: Policy
    if start.policy == "table":
        policy = Table(options.prompts, vocabulary, scale=scale)
    elif start.policy == "tree":
        policy = Tree(max(1, options.prompts // 2), vocabulary, TOKENS, scale=scale)
    else:
        policy = Recurrent(max(1, options.prompts // 4), vocabulary, TOKENS, scale=NETWORK_SCALE)
    low, high = (max(1, round(share * vocabulary**policy.length)) for share in start.correct)
    problem = liked_problem(policy, options.repeats, options.seed, (low, high), start.liking, dtype=torch.float64)
    return policy, problem


def setting_of(
    name: str, settings: Mapping[str, Any], options: Options, *, passes: int = 1, times: float = 1.0
) -> Setting:
    """Return a setting whose step moves a token's own logits by the rate times its advantage over G."""
    policy, problem = first(name, options)
    return Setting(
        policy=policy,
        problem=problem,
        algorithm=assemble(settings, group_size=options.group_size, updates=passes),
        steps=max(1, round(options.steps / (passes * times))),
        learning_rate=options.learning_rate * STARTS[name].rate * times * policy.prompts * policy.length,
        group_size=options.group_size,
        epochs=passes,
    )


def run_grpo(name: str, options: Options) -> Rows:
    """Run GRPO from a start; return the parts of its expected change at first order, every few steps."""
    setting = setting_of(name, RECIPES["grpo"].settings, options)
    rows: list[dict[str, Any]] = []
    for step in Simulation(setting, options.repeats, seed=options.seed, trace=True):
        if step.step % options.every:
            continue
        assert step.trace is not None
        assert step.exact_entropy is not None
        assert step.expected_reward is not None
        found = parts(setting, step.trace)
        # Of an update at rate 1; a network's is lower.
        found |= {side: found[side] * STARTS[name].rate for side in ("positive", "negative")}
        found |= {"entropy": step.exact_entropy, "success": step.expected_reward}
        time = options.learning_rate * step.step
        for repeat in range(options.repeats):
            numbers = {key: float(value[repeat]) for key, value in found.items()}
            rows.append({"part": "grpo", "start": name, "repeat": repeat, "step": step.step, "time": time, **numbers})
    return rows


def parts(setting: Setting, trace: Trace) -> dict[str, Float[Tensor, "R"]]:
    """Return the two parts of GRPO's expected change, nats per unit of time at rate 1, and on which tokens they act.

    The parts are <grad H, P T g>, g the exact policy gradient with expected advantages of one sign alone. A prompt's
    are one value alpha on its right answers, another, -beta, on its wrong ones, with mu alpha = (1 - mu) beta, and
    E[grad log pi] = 0: they push along alpha grad mu and beta grad mu, in any architecture. `odds_error` is how far the
    sums over prompts of alpha and beta times <grad H, grad mu> are from the parts.
    """
    policy, repeats, before = setting.policy, len(trace.rollouts.rewards), trace.before.parameters
    leaves = {name: value.detach().requires_grad_() for name, value in before.items()}
    tree = tree_of(policy, leaves)
    reach = tuple(level.detach() for level in tree.reach)
    slope = gradient(tree.entropy(reach).sum(), leaves)
    rewards = setting.problem.table(repeats, trace.rollouts.rewards)
    success = (tree.probabilities * rewards).sum(-1)
    towards = along(success, leaves, slope)
    tree = detached(tree)
    values = expected_advantages(setting.algorithm.advantage, rewards, tree.probabilities, setting.group_size)
    plus, minus = values.clamp(min=0), values.clamp(max=0)
    scale = policy.prompts * policy.length
    positive, negative = (inner(slope, policy_gradient(policy, before, part)[1]) * scale for part in (plus, minus))
    mu = success.detach()
    alpha, odds = plus.amax(-1), mu / (1 - mu).clamp(min=1e-12)
    beta = alpha * odds
    surer, weight = zip(*(confidence(tree, part) for part in (plus, minus)), strict=True)
    change = (alpha + beta) * towards
    # Prompts that learn: their groups are not all alike for sure.
    learns = (mu > 1e-3) & (mu < 1 - 1e-3)
    gap = surer[0] - surer[1]
    size = (alpha * towards).abs().sum(-1) + (beta * towards).abs().sum(-1)
    off = ((alpha * towards).sum(-1) - positive).abs() + ((beta * towards).sum(-1) - negative).abs()
    return {
        "positive": positive,
        "negative": negative,
        "probability_positive": weighted(surer[0], weight[0]),
        "probability_negative": weighted(surer[1], weight[1]),
        "gap_within": weighted(gap, (weight[0] + weight[1]) * learns),
        "covariance_drawn": drawn_covariance(trace),
        "covariance": token_covariance(tree, values),
        "confidence_names_larger": share((gap > 0) == (alpha > beta), learns),
        "odds_name_larger": share((mu < 0.5) == (alpha > beta), learns),
        "confidence_names_sign": weighted(((gap > 0) == (change < 0)).to(mu), change.abs() * learns),
        "falling": weighted((change < 0).to(mu), change.abs()),
        "odds_error": off / size.clamp(min=1e-300),
    }


def gradient(value: Tensor, leaves: Parameters, create_graph: bool = False) -> Parameters:
    """Return the gradient of a number in the parameters; the graph stays."""
    found = torch.autograd.grad(
        value,
        list(leaves.values()),
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(leaves, found, strict=True))


def along(values: Float[Tensor, "R P"], leaves: Parameters, direction: Parameters) -> Float[Tensor, "R P"]:
    """Return the derivative of values of the parameters along a direction: twice backwards is once forwards."""
    weights = torch.zeros_like(values).requires_grad_()
    pulled = gradient((weights * values).sum(), leaves, create_graph=True)
    (found,) = torch.autograd.grad(inner(pulled, direction).sum(), weights)
    return found


def detached(tree: exact.Tree) -> exact.Tree:
    """Return the tree without gradient."""
    return exact.Tree(tuple(x.detach() for x in tree.log_probs), tuple(x.detach() for x in tree.reach))


def confidence(tree: exact.Tree, values: Float[Tensor, "R P Y"]) -> tuple[Float[Tensor, "R P"], Float[Tensor, "R P"]]:
    """Return the mean probability of the tokens that values of one sign act on, weighed by size, and the weights."""
    total = weight = torch.zeros_like(values[..., 0])
    for log_probs, reach, q in zip(tree.log_probs, tree.reach, tree.action_values(values.abs()), strict=True):
        p = log_probs.exp()
        acted = reach[..., None] * p * q
        total, weight = total + (acted * p).sum((-2, -1)), weight + acted.sum((-2, -1))
    return total / weight.clamp(min=1e-300), weight


def drawn_covariance(trace: Trace) -> Float[Tensor, "R"]:
    """Return the mean of A (N - S) over the tokens drawn."""
    contexts, tokens = trace.rollouts.contexts, trace.rollouts.tokens
    s = contexts.discriminator
    influence = ((contexts.probs * s).sum(-1, keepdim=True) - s).gather(-1, contexts.by_context(tokens))
    return (trace.groups.token_advantages * influence.view(tokens.shape)).mean((-3, -2, -1))


def token_covariance(tree: exact.Tree, values: Float[Tensor, "R P Y"]) -> Float[Tensor, "R"]:
    """Return the expectation over sampled tokens of A (N - S), which is Cov(A, N - S) since N - S averages to 0."""
    total: Tensor | float = 0.0
    for log_probs, reach, q, s in zip(
        tree.log_probs, tree.reach, tree.action_values(values), tree.discriminators(), strict=True
    ):
        p = log_probs.exp()
        centred = (p * s).sum(-1, keepdim=True) - s
        total = total + (reach[..., None] * p * q * centred).sum((-2, -1)).mean(-1)
    return torch.as_tensor(total / tree.length)


def weighted(values: Float[Tensor, "R P"], weights: Float[Tensor, "R P"]) -> Float[Tensor, "R"]:
    """Return the weighted mean over prompts; 0 where nothing has weight."""
    return (values * weights).sum(-1) / weights.sum(-1).clamp(min=1e-300)


def share(true: Tensor, among: Tensor) -> Float[Tensor, "R"]:
    """Return the share of the prompts that count of which something is true; NaN where none counts."""
    return (true & among).double().sum(-1) / among.double().sum(-1)


def run_sides(name: str, variant: str, options: Options) -> Rows:
    """Run positives only and negatives only from one start, with the same draws, for the same time."""
    passes, denominator, times = VARIANTS[variant]
    # The filter rejects the rows without advantage: they count in the denominator `zero` and not in `drop`.
    settings = {"filter": "nonzero", "denominator": denominator}
    rows: list[dict[str, Any]] = []
    for side, advantage in (("positives", "raft"), ("negatives", "nsr")):
        setting = setting_of(name, {**settings, "advantage": advantage}, options, passes=passes, times=times)
        simulation = Simulation(setting, options.repeats, seed=options.seed)
        before = tree_of(setting.policy, simulation.state.parameters).entropy()
        for _ in simulation:
            pass
        after = tree_of(setting.policy, simulation.state.parameters)
        reward = after.expected(simulation.rewards)
        for repeat in range(options.repeats):
            rows.append(
                {
                    "part": "sides",
                    "start": name,
                    "variant": variant,
                    "side": side,
                    "repeat": repeat,
                    "before": float(before[repeat]),
                    "after": float(after.entropy()[repeat]),
                    "reward": float(reward[repeat]),
                }
            )
    return rows


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the parts and confidences along GRPO's run, a summary a start, and positives against negatives."""
    grpo = rows[rows["part"] == "grpo"]
    curves = pd.concat(
        [
            mean_and_interval(grpo, ["start", "time"], name)
            .rename(columns={name: "value"})
            .assign(line=grpo_line(name), kind=kind)
            for kind, names in CURVES.items()
            for name in names
        ],
        ignore_index=True,
    )
    curves = curves.assign(line=curves.start + ", " + curves.line)
    found = {f"{kind}_curves": part.drop(columns="kind") for kind, part in curves.groupby("kind", sort=False)}
    return {
        **found,
        "starts": pd.DataFrame([of_start(str(name), part) for name, part in grpo.groupby("start", sort=False)]),
        "sides": of_sides(rows[rows["part"] == "sides"]),
    }


CURVES = {
    "entropy": ("entropy",),
    "part": ("positive", "negative"),
    "confidence": ("probability_positive", "probability_negative"),
}


def grpo_line(name: str) -> str:
    """Return what a line shows."""
    return "all" if name == "entropy" else name.rpartition("_")[2]


def of_start(name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Return a start's numbers, each with its standard error.

    The parts are those at the first step, and their means while success is below a half and over the run.
    """
    by_repeat = rows.groupby("repeat", sort=False)
    windows = {
        "first": rows[rows.step == rows.step.min()],
        "early": rows[rows.success < 0.5].groupby("repeat", sort=False).mean(numeric_only=True),
        "run": by_repeat.mean(numeric_only=True),
    }
    entropy = by_repeat.entropy.agg(["first", "last"])
    found: dict[str, Any] = {
        "start": name,
        "entropy": entropy["first"].mean(),
        "success": windows["first"].success.mean(),
    }
    found |= mean_error("fall", entropy["first"] - entropy["last"])
    for label, part in windows.items():
        found |= mean_error(f"positive_{label}", part.positive) | mean_error(f"negative_{label}", part.negative)
        found |= ratio_error(f"ratio_{label}", part.positive, part.negative)
        found |= mean_error(f"gap_{label}", part.probability_positive - part.probability_negative)
        found |= mean_error(f"gap_within_{label}", part.gap_within)
    for column in ("confidence_names_larger", "odds_name_larger", "confidence_names_sign", "falling"):
        found |= mean_error(column, by_repeat[column].mean())
    found["odds_error"] = rows.odds_error.max()
    return found | mean_error("covariance_off", by_repeat.covariance_drawn.mean() - by_repeat.covariance.mean())


def of_sides(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each start and variant's change of entropy with positives and with negatives, and their difference."""
    found = []
    for (start, variant), part in rows.groupby(["start", "variant"], sort=False):
        change = (part.after - part.before).groupby([part.side, part.repeat]).mean().unstack(0)
        line: dict[str, Any] = {"start": start, "variant": variant, "entropy": part.before.mean()}
        for side in ("positives", "negatives"):
            line |= mean_error(f"change_{side}", change[side])
            line |= mean_error(f"reward_{side}", part[part.side == side].reward)
        found.append(line | mean_error("difference", change.negatives - change.positives))
    return pd.DataFrame(found)


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return what the starts say, and whether the claim holds."""
    starts, sides = found["starts"], found["sides"]
    lines = [verdict(starts), four_times(starts), odds(starts)]
    for row in records(starts):
        windows = "; ".join(
            f"{when} {text(row[f'positive_{label}'], sign=True, digits=4)} and "
            f"{text(row[f'negative_{label}'], sign=True, digits=4)}, positives less negatives in probability "
            f"{text(row[f'gap_{label}'], row[f'gap_{label}_error'], sign=True)}"
            for label, when in WINDOWS.items()
        )
        lines.append(
            f"{row['start']}: from {row['entropy']:.2f} nats and success {row['success']:.2f}, falls by "
            f"{text(row['fall'], row['fall_error'])}; positive and negative part in nats per unit of time {windows}."
        )
    return [*lines, *side_findings(sides)]


WINDOWS = {"first": "at the first step", "early": "while success is below a half", "run": "over the run"}


def verdict(starts: pd.DataFrame) -> str:
    """Return whether the claim holds, by a rule.

    It holds where entropy falls, the positive part lowers it by more than the negative one, and positives are the more
    confident tokens, in every start, and where the more confident side of a prompt carries more in 95 % of them; in
    part where the first three are so in some start. All by two standard errors.
    """
    falls = starts.fall > 2 * starts.fall_error
    more = starts.negative_run - starts.positive_run > 2 * (starts.positive_run_error + starts.negative_run_error)
    surer = starts.gap_run > 2 * starts.gap_run_error
    right = falls & more & (starts.positive_run < 0) & surer
    named = float(starts.confidence_names_larger.mean())
    word = "holds" if right.all() and named >= 0.95 else "holds in part" if right.any() else "does not hold"
    count = len(starts)
    return (
        f"The claim {word}: entropy falls in {falls.sum()} of {count} starts, positives are more confident in "
        f"{surer.sum()}, the positive part lowers entropy more in {(more & (starts.positive_run < 0)).sum()}, all "
        f"three in {right.sum()}; the more confident side of a prompt carries more in {named:.0%} of prompts (95 % "
        "asked for)."
    )


def four_times(starts: pd.DataFrame) -> str:
    """Return whether the positive part carries four times the negative one, as in a small language model.

    It does, at the first step or while success is below a half, where both parts lower entropy and their ratio is
    within two standard errors of four.
    """
    lines = []
    for label in ("first", "early"):
        value, error = starts[f"ratio_{label}"], starts[f"ratio_{label}_error"]
        falling = (starts[f"positive_{label}"] < 0) & (starts[f"negative_{label}"] < 0)
        near = falling & ((value - LANGUAGE_MODEL_RATIO).abs() <= 2 * error)
        ratios = "; ".join(
            f"{name} {text(ratio, off, digits=2)}"
            for name, ratio, off in zip(starts.start[falling], value[falling], error[falling], strict=True)
        )
        lines.append(
            f"{WINDOWS[label]} in {near.sum()} of {len(starts)} starts (both parts lower entropy in {falling.sum()}"
            f"{': ratio ' if ratios else ''}{ratios})"
        )
    return (
        f"In a small language model the positive part carries {LANGUAGE_MODEL_RATIO:.0f} times the negative one; here, "
        f"within two standard errors, {' and '.join(lines)}."
    )


def odds(starts: pd.DataFrame) -> str:
    """Return whether the odds of failure say which part carries more."""
    worst = starts.odds_error.max()
    falling = "; ".join(f"{row.start} {row.falling:.0%}" for row in each(starts))
    return (
        f"In expectation a prompt's positive part {'is' if worst < 1e-6 else 'is not'} (1 - mu)/mu times its negative "
        f"part (off by {worst:.0e} at most): the side of fewer answers carries more, whichever is more confident. Four "
        f"times is success 0.20 of the prompts that change entropy. Which side is more confident gives the sign of "
        f"{starts.confidence_names_sign.mean():.0%} of the change instead, and the share of it that falls is {falling}."
    )


def side_findings(sides: pd.DataFrame) -> list[str]:
    """Return what positives only and negatives only did, a variant."""
    lines = []
    for variant, part in sides.groupby("variant", sort=False):
        apart = part.difference.abs() > 3 * part.difference_error
        rises = part.change_negatives > 2 * part.change_negatives_error
        listed = "; ".join(
            f"{row.start} {row.change_positives:+.3f} and {row.change_negatives:+.3f} (difference "
            f"{text(row.difference, row.difference_error, sign=True)})"
            for row in each(part)
        )
        lines.append(
            f"Positives only against negatives only, {variant}: more than 3 standard errors apart in {apart.sum()} of "
            f"{len(part)} starts, negatives raise entropy in {rises.sum()}: {listed}."
        )
    return lines


TIME = "learning rate x steps"
EXPERIMENT = Experiment(
    name="collapse",
    claim="GRPO's entropy falls because its positive part acts on more confident tokens than its negative part.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        Panel(
            "GRPO's entropy",
            "entropy_curves",
            "time",
            "value",
            by="start",
            low="low",
            high="high",
            x_label=TIME,
            y_label="entropy (nats)",
        ),
        Panel(
            "First-order change by sign of the advantage",
            "part_curves",
            "time",
            "value",
            by="line",
            low="low",
            high="high",
            x_label=TIME,
            y_label="change (nats per unit of time)",
            zero=True,
        ),
        Panel(
            "Probability of the tokens acted on",
            "confidence_curves",
            "time",
            "value",
            by="line",
            low="low",
            high="high",
            x_label=TIME,
            y_label="mean probability, weighed by |A|",
        ),
        Panel(
            "Positive over negative part, whole run",
            "starts",
            "start",
            "ratio_run",
            kind="bar",
            y_label="ratio of the two parts",
        ),
        Panel(
            "Positives only",
            "sides",
            "start",
            "variant",
            kind="map",
            value="change_positives",
            value_label="change of entropy (nats)",
        ),
        Panel(
            "Negatives only",
            "sides",
            "start",
            "variant",
            kind="map",
            value="change_negatives",
            value_label="change of entropy (nats)",
        ),
    ),
)
