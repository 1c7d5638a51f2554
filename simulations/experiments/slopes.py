"""The entropy slope of every recipe, from one policy and the same draws."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats  # type: ignore[import-untyped]
import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import tree_of
from simulations.experiment import Cell, Experiment, Panel, Rows
from simulations.loop import Setting, Simulation, Trace, at_parameters, leaves, on_logits, rows_of
from simulations.optimizers import SGD, Adam, Optimizer
from simulations.policies import Parameters, Policy, Table, Tree
from simulations.problems import Problem
from simulations.rollouts import Rollouts
from simulations.starts import liked_problem, logit_scale
from simulations.summaries import each, mean_error, ratio_error, text
from trainer.methods.assembly import DEFAULTS, assemble
from trainer.methods.pipeline import Algorithm, mean_loss, mini_batch_rows, weighted_advantages
from trainer.methods.recipes import RECIPES
from trainer.methods.schedules import Constant
from trainer.methods.stages import Filtered
from trainer.methods.table import find

POLICIES = ("table", "tree")
OPTIMIZERS: dict[str, Optimizer] = {"sgd": SGD(), "adam": Adam()}
# What its source says a recipe does to entropy, against the method it starts from: 1 keeps it higher, -1 lower. Left
# out are those that say nothing of entropy, and those whose published target may lie on either side of ours.
SAYS = {
    "raft": -1,
    "raft_plus_plus": -1,
    "psr": -1,
    **dict.fromkeys(
        ("algorithm1", "released", "nsr", "w_reinforce", "dapo", "clip_higher", "clip_cov", "kl_cov", "clip_b"), 1
    ),
    **dict.fromkeys(("clip_v", "opefo", "steer", "repo", "repo_r", "adapo", "flexible_id", "entropy_bonus"), 1),
    **dict.fromkeys(("rejection", "soft", "solved_bonus"), 1),
    **dict.fromkeys(("rejection_directional", "soft_directional", "soft_tokens", "solved_bonus_directional"), 1),
}
# Runs of GRPO that others are compared with: several optimiser steps a batch, or one.
BASELINES = {False: "grpo", True: "grpo_on_policy"}


@dataclass(frozen=True)
class Options:
    """Sizes.

    Args:
        seed: of first parameters, problems and draws.
        repeats: runs of each recipe.
        prompts: P.
        arms: of the table's bandits.
        vocabulary: of the tree.
        tokens: of the tree's responses.
        group_size: G.
        entropy: of the first policy before the warm-up, nats.
        warm_up: steps of plain GRPO that make the policy all recipes start from, the same for each.
        learning_rate: of a token's own logits per unit of its advantage and optimiser step, with SGD and in the
            warm-up.
        adam_rate: Adam's learning rate.
        epochs: passes over a batch.
        mini_batches: optimiser steps a pass; recipes that are on-policy by definition take one step a batch.
        steps: over which the slope is taken.
        run: steps of the run whose beginning this is, for methods that go by a run's progress.
        policies: to run, table and tree.
        recipes: names; all by default.
    """

    seed: int = 0
    repeats: int = 24
    prompts: int = 16
    arms: int = 20
    vocabulary: int = 4
    tokens: int = 3
    group_size: int = 8
    entropy: float = 0.8
    warm_up: int = 20
    learning_rate: float = 0.5
    adam_rate: float = 0.03
    epochs: int = 2
    mini_batches: int = 2
    steps: int = 10
    run: int = 100
    policies: tuple[str, ...] = POLICIES
    recipes: tuple[str, ...] = ()


def cells(options: Options) -> list[Cell]:
    """Return a cell a recipe, policy and optimiser."""
    unknown = [name for name in options.recipes if name not in RECIPES]
    if unknown:
        raise ValueError(f"--recipes {unknown[0]} must be of {list(RECIPES)}; got another. Mend its spelling.")
    names = [*BASELINES.values(), *(name for name in options.recipes or RECIPES if name != "grpo")]
    return [
        Cell(f"{policy}_{optimizer}_{name}", partial(run, name, policy, optimizer, options))
        for policy in options.policies
        for optimizer in OPTIMIZERS
        for name in names
    ]


@lru_cache(maxsize=4)
def start(policy_name: str, options: Options) -> tuple[Policy, Problem, Parameters, float]:
    """Return the policy, its problem, the parameters that plain GRPO makes of its first ones, and their entropy."""
    policy: Policy = Table(options.prompts, options.arms, scale=logit_scale(options.entropy, options.arms))
    correct, liking = (1, max(1, options.arms // 5)), 0.1
    if policy_name == "tree":
        scale = logit_scale(options.entropy, options.vocabulary)
        policy = Tree(options.prompts, options.vocabulary, options.tokens, scale=scale)
        correct, liking = (1, max(1, options.vocabulary**options.tokens // 10)), 0.2
    problem = liked_problem(policy, options.repeats, options.seed, correct, liking, dtype=torch.float64)
    setting = Setting(
        policy=policy,
        problem=problem,
        algorithm=assemble({}, group_size=options.group_size),
        steps=max(1, options.warm_up),
        learning_rate=options.learning_rate * policy.prompts * policy.length,
        group_size=options.group_size,
        measure=False,
    )
    simulation = Simulation(setting, options.repeats, seed=options.seed)
    for _ in range(options.warm_up):
        simulation.advance()
    parameters = simulation.state.parameters
    return policy, problem, parameters, float(tree_of(policy, parameters).entropy().mean())


def setting_of(name: str, policy_name: str, optimizer: str, options: Options) -> Setting:
    """Return the setting of a recipe, its band about the entropy at the start."""
    policy, problem, _, entropy = start(policy_name, options)
    recipe = RECIPES["grpo" if name in BASELINES.values() else name]
    one = recipe.on_policy or name == BASELINES[True]
    epochs, mini_batches = (1, 1) if one else (options.epochs, options.mini_batches)
    rate = options.adam_rate
    if optimizer == "sgd":
        # A prompt's share of the loss of its mini-batch is 1 / (P / mini-batches).
        rate = options.learning_rate * policy.prompts * policy.length / mini_batches
    return Setting(
        policy=policy,
        problem=problem.signed() if recipe.reward == "signed" else problem,
        algorithm=assemble(
            sized(recipe.settings, policy.length),
            group_size=options.group_size,
            updates=epochs * mini_batches,
        ),
        steps=max(options.run, options.steps),
        learning_rate=rate,
        optimizer=OPTIMIZERS[optimizer],
        group_size=options.group_size,
        epochs=epochs,
        mini_batches=mini_batches,
        schedule=Constant((0.95 * entropy, 1.05 * entropy), (0.0, 0.0)),
    )


def sized(settings: Mapping[str, Any], length: int) -> dict[str, Any]:
    """Return a recipe's settings with the run's own longest response, in place of a language model's.

    >>> sized({"denominator": "max_length", "denominator_options": {"length": 3072}}, 3)["denominator_options"]
    {'length': 3}
    """
    found = dict(settings)
    if found.get("denominator") == "max_length":
        found["denominator_options"] = {"length": length}
    return found


def ours(name: str) -> bool:
    """Return whether a recipe has a method of which its source leaves something open that we chose."""
    settings = {**DEFAULTS, **RECIPES[name].settings}
    named = [(slot, settings[slot]) for slot in DEFAULTS if slot != "terms" and settings[slot] is not None]
    return any(find(*pair).ours for pair in [*named, *(("terms", term) for term in settings["terms"])])


def run(name: str, policy_name: str, optimizer: str, options: Options) -> Rows:
    """Run a recipe for some steps; return each repeat's slope, and how much of the batches the recipe touched."""
    policy, _, parameters, _ = start(policy_name, options)
    setting = setting_of(name, policy_name, optimizer, options)
    simulation = Simulation(setting, options.repeats, seed=options.seed + 1, trace=True)
    state = simulation.state
    simulation.state = replace(state, parameters=parameters, moments=setting.optimizer.start(parameters))
    simulation.reference = parameters
    entropy, rewards, touches, clipped, accepted = [], [], [], [], []
    plain = plain_grpo(setting, options)
    for _ in range(options.steps):
        step = simulation.advance()
        assert step.trace is not None
        assert step.exact_entropy is not None
        assert step.expected_reward is not None
        entropy.append(step.exact_entropy)
        rewards.append(step.expected_reward)
        touches.append(touched(setting, step.trace, plain))
        clipped.append(step.clip_low + step.clip_high)
        accepted.append(step.accepted)
    tree = tree_of(policy, simulation.state.parameters)
    entropy.append(tree.entropy())
    rewards.append(tree.expected(simulation.rewards))
    gain = (rewards[-1] - rewards[0]) / (2 if RECIPES.get(name, RECIPES["grpo"]).reward == "signed" else 1)
    sizes = torch.stack([push for _, push in touches]).sum(0)
    columns = {
        "slope": slope_of(torch.stack(entropy)),
        "entropy": entropy[0],
        "fall": entropy[0] - entropy[-1],
        "reward_gain": gain,
        "touched": torch.stack([share for share, _ in touches]).mean(0),
        "push": sizes[0] / sizes[1].clamp(min=1e-300),
        "clipped": torch.stack(clipped).mean(0),
        "accepted": torch.stack(accepted).mean(0),
    }
    known = {
        "recipe": name,
        "policy": policy_name,
        "optimizer": optimizer,
        "baseline": BASELINES[setting.epochs * setting.mini_batches == 1],
        "says": SAYS.get(name, 0),
        "ours": name not in BASELINES.values() and ours(name),
    }
    return [
        {**known, "repeat": repeat, **{key: float(value[repeat]) for key, value in columns.items()}}
        for repeat in range(options.repeats)
    ]


def slope_of(entropy: Float[Tensor, "S R"]) -> Float[Tensor, "R"]:
    """Return the least-squares slope over steps.

    >>> slope_of(torch.tensor([[1.0], [3.0], [5.0]]))
    tensor([2.])
    """
    steps = torch.arange(len(entropy), dtype=entropy.dtype)
    steps = steps - steps.mean()
    return (steps[:, None] * entropy).sum(0) / steps.square().sum()


def plain_grpo(setting: Setting, options: Options) -> Algorithm:
    """Return plain GRPO for the updates of a setting."""
    return assemble({}, group_size=options.group_size, updates=setting.epochs * setting.mini_batches)


def touched(setting: Setting, trace: Trace, plain: Algorithm) -> tuple[Float[Tensor, "R"], Float[Tensor, "2 R"]]:
    """Return what a recipe made of a batch other than GRPO would have, over its optimiser steps.

    At the parameters of each optimiser step, on the same tokens: the mean share of the tokens whose pull on the logits
    differs from GRPO's, and the summed sizes of the difference of the gradients on all logits and of GRPO's own.
    """
    rollouts = trace.rollouts
    unfiltered = Filtered(torch.ones_like(rollouts.rewards), plain.advantage(rollouts.rewards))
    sides = (
        (setting.algorithm, trace.filtered, trace.before.states),
        (plain, unfiltered, plain.start()),
    )
    parameters, moments = trace.before.parameters, trace.before.moments
    passes, shares, pushes = iter(trace.passes), [], []
    count = rollouts.rewards[0].numel()
    for _ in range(setting.epochs):
        for index in mini_batch_rows(count, setting.group_size, setting.mini_batches):
            rows = slice(int(index[0]), int(index[-1]) + 1)
            part = at_parameters(setting.policy, parameters, rows_of(rollouts, rows, setting.group_size))
            own, others = (
                pull(setting, trace, algorithm, filtered, states, part, rows) for algorithm, filtered, states in sides
            )
            # GRPO's own rounding is far below this; signed rewards move its advantages by less.
            small = 1e-5 * others[0].square().sum(-1).mean((-2, -1), keepdim=True).sqrt()
            shares.append(((own[0] - others[0]).abs().amax(-1) > small).to(small).mean((-2, -1)))
            size, difference = (x.square().sum((-2, -1)).sqrt() for x in (others[1], own[1] - others[1]))
            pushes.append(torch.stack([difference, size]))
            done = next(passes)
            moments, parameters = setting.optimizer.step(
                moments, parameters, done.gradients, trace.learning_rate, done.active
            )
    return torch.stack(shares).mean(0), torch.stack(pushes).sum(0)


def pull(
    setting: Setting,
    trace: Trace,
    algorithm: Algorithm,
    filtered: Filtered,
    states: Mapping[str, Any],
    part: Rollouts,
    rows: slice,
) -> tuple[Float[Tensor, "R B T 2"], Float[Tensor, "R C V"]]:
    """Return each token's pull by its log-probability and by its entropy or logits, and the pull on all logits."""
    record = trace.rollouts.record
    advantages = weighted_advantages(filtered, record.mask)[:, rows]
    mean = algorithm.denominator(record.lengths.flatten(-2)[:, rows], filtered.weights.flatten(-2)[:, rows])
    needs = set(algorithm.needs) | ({"entropy_gradient"} if filtered.bonus is not None else set())
    reference = noise = None
    if "reference" in needs:
        first = at_parameters(setting.policy, trace.reference, trace.rollouts)
        reference = first.contexts.chosen(trace.rollouts.tokens).flatten(1, 2)[:, rows]
    if "noise" in needs:
        drawn = torch.Generator().manual_seed(trace.before.step)
        noise = torch.rand(advantages.shape, generator=drawn, dtype=advantages.dtype)
    tokens = leaves(part, advantages, needs, reference, noise)
    loss = mean_loss(algorithm.surrogate(dict(states), tokens, filtered.bonus).loss, mean).sum()
    if not loss.requires_grad:
        return torch.zeros(*advantages.shape, 2, dtype=advantages.dtype), on_logits(loss, tokens, part)
    held = [x for x in (tokens.log_prob, tokens.entropy, tokens.logits) if x is not None and x.requires_grad]
    found = torch.autograd.grad(loss, held, retain_graph=True, allow_unused=True, materialize_grads=True)
    other = [x.abs() if x.dim() == advantages.dim() else x.abs().sum(-1) for x in found[1:]]
    by_token = torch.stack([found[0], sum(other, torch.zeros_like(found[0]))], -1)
    return by_token, on_logits(loss, tokens, part)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each recipe's slope and its difference to GRPO's, paired by repeat, and the verdicts on what is said."""
    keys = ["policy", "optimizer", "repeat"]
    base = rows[rows.recipe == rows.baseline].set_index([*keys, "recipe"]).slope
    paired = rows.join(base.rename("base"), on=[*keys, "baseline"])
    paired = paired.assign(difference=paired.slope - paired.base)
    found = []
    for (policy, optimizer, name), part in paired.groupby(["policy", "optimizer", "recipe"], sort=False):
        line: dict[str, Any] = {"recipe": name, "policy": policy, "optimizer": optimizer}
        line |= {"cell": f"{policy}, {optimizer}"}
        line |= {column: part[column].iloc[0] for column in ("baseline", "says", "ours")}
        line |= {"entropy": part.entropy.mean()}
        for column in ("slope", "difference", "reward_gain"):
            line |= mean_error(column, part[column])
        line |= ratio_error("price", part.fall, part.reward_gain)
        line |= {column: part[column].mean() for column in ("touched", "push", "clipped", "accepted")}
        error = line["difference_error"]
        line |= {"z": line["difference"] / error if error > 0 else 0.0, "repeats": len(part)}
        found.append(line)
    slopes = pd.DataFrame(found)
    compared = slopes.recipe != slopes.baseline
    # Student's t, two-sided at 5 % over all comparisons together (Bonferroni).
    critical = scipy.stats.t.ppf(1 - 0.025 / max(int(compared.sum()), 1), max(int(slopes.repeats.min()) - 1, 1))
    beyond = slopes.z.abs() > critical
    slopes = slopes.assign(critical=critical, effect=(np.sign(slopes.z) * beyond * compared).astype(int))
    theirs = slopes[~slopes.ours.astype(bool)]
    ranks = theirs.groupby("cell").difference.rank(ascending=False)
    slopes = slopes.assign(rank=ranks.reindex(slopes.index))
    return {"slopes": slopes, "said": said(slopes)}


def said(slopes: pd.DataFrame) -> pd.DataFrame:
    """Return, for each cell, how many recipes of their authors alone moved entropy as their source says."""
    theirs = slopes[(slopes.says != 0) & ~slopes.ours.astype(bool)]
    agreement = (theirs.effect * theirs.says).map({1: "as_said", 0: "no_effect", -1: "opposite"})
    counts = pd.crosstab(theirs.cell, agreement).reindex(columns=["as_said", "no_effect", "opposite"], fill_value=0)
    return counts.reindex(theirs.cell.unique()).reset_index()


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return whether recipes do what is said of them, the ranking, and what has no effect at these sizes."""
    slopes, counts = found["slopes"], found["said"]
    lines = [verdict(slopes, counts)]
    for cell, part in slopes.groupby("cell", sort=False):
        lines.append(cell_finding(str(cell), part))
    lines.append(agreement(slopes))
    none = slopes[slopes.recipe != slopes.baseline].groupby("recipe", sort=False)
    idle = [str(name) for name, part in none if bool((part.effect == 0).all())]
    unmoved = [
        f"{name!s} (touches {part.touched.mean():.2%} of tokens, moves the gradient by {part.push.mean():.2%}"
        f"{', ours' if bool(part.ours.any()) else ''})"
        for name, part in none
        if name in idle
    ]
    lines.append(f"No effect on the slope in any cell beyond noise: {', '.join(unmoved) or 'none'}.")
    ours_too = sorted(slopes.recipe[slopes.ours.astype(bool)].unique())
    lines.append(f"Not ranked, since they have options of our own: {', '.join(ours_too) or 'none'}.")
    return lines


def verdict(slopes: pd.DataFrame, counts: pd.DataFrame) -> str:
    """Return whether recipes move entropy as said: in 9 of 10 comparisons or more, in half or more, or in fewer."""
    total = counts[["as_said", "no_effect", "opposite"]].to_numpy().sum()
    if total == 0:
        return "No recipe here has a source that says which way entropy goes."
    share = counts.as_said.sum() / total
    word = "holds" if share >= 0.9 else "holds in part" if share >= 0.5 else "does not hold"
    against = slopes[(slopes.effect * slopes.says < 0) & ~slopes.ours.astype(bool)]
    names = ", ".join(f"{row.recipe} ({row.cell})" for row in each(against)) or "none"
    return (
        f"The claim {word}: {counts.as_said.sum()} of {total} comparisons with GRPO are as the source says, "
        f"{counts.no_effect.sum()} are within noise and {counts.opposite.sum()} opposite ({names}); 90 % are asked "
        f"for, |t| > {slopes.critical.iloc[0]:.1f} each."
    )


def cell_finding(cell: str, part: pd.DataFrame) -> str:
    """Return GRPO's slope and the ends of the ranking in one cell."""
    base = part[part.recipe == BASELINES[False]].iloc[0]
    ranked = part[part["rank"].notna() & (part.effect != 0)].sort_values("rank")

    def ends(rows: pd.DataFrame) -> str:
        return ", ".join(f"{row.recipe} {1e3 * row.difference:+.2f} (t {row.z:+.1f})" for row in each(rows))

    higher, lower = ranked[ranked.difference > 0].head(5), ranked[ranked.difference < 0].tail(5)[::-1]
    return (
        f"{cell}: from {base.entropy:.2f} nats GRPO's slope is {1e3 * base.slope:+.2f} +- {1e3 * base.slope_error:.2f} "
        f"milli-nats a step at {text(base.price, base.price_error, 2)} nats per unit of reward gained, "
        f"{base.clipped:.1%} of tokens clipped; above it most: {ends(higher) or 'none'}; below it most: "
        f"{ends(lower) or 'none'}; fewest nats per reward: {cheapest(part)}."
    )


def cheapest(part: pd.DataFrame) -> str:
    """Return the ranked recipes that gain reward at the fewest nats, apart from GRPO by 3 errors of both."""
    base = part[part.recipe == BASELINES[False]].iloc[0]
    gains = part[part["rank"].notna() & (part.reward_gain > 3 * part.reward_gain_error)]
    apart = gains[base.price - gains.price > 3 * np.hypot(gains.price_error, base.price_error)].sort_values("price")
    return ", ".join(f"{row.recipe} {text(row.price, row.price_error, 2)}" for row in each(apart.head(5))) or "none"


def agreement(slopes: pd.DataFrame) -> str:
    """Return how alike the rankings of the cells are."""
    wide = slopes[slopes["rank"].notna()].pivot(index="recipe", columns="cell", values="difference")
    pairs = wide.corr(method="spearman").to_numpy()[np.triu_indices(wide.shape[1], 1)]
    if len(pairs) == 0 or np.isnan(pairs).all():
        return "The rankings of the cells cannot be compared."
    return (
        f"The ranking of recipes agrees between cells with rank correlations of {np.nanmin(pairs):.2f} to "
        f"{np.nanmax(pairs):.2f}."
    )


EXPERIMENT = Experiment(
    name="slopes",
    claim="From one policy and the same draws, each recipe moves the entropy's slope the way its source says.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        Panel(
            "Slope less GRPO's",
            "slopes",
            "cell",
            "recipe",
            kind="map",
            value="difference",
            value_label="nats per token a step",
        ),
        Panel(
            "Differences in standard errors",
            "slopes",
            "cell",
            "recipe",
            kind="map",
            value="z",
            value_label="t",
        ),
        Panel(
            "How much of GRPO's gradient a recipe changes",
            "slopes",
            "push",
            "difference",
            kind="points",
            by="cell",
            x_label="size of the change over that of GRPO's gradient",
            y_label="slope less GRPO's (nats a step)",
            x_log=True,
            zero=True,
        ),
        Panel("Reward gained", "slopes", "cell", "recipe", kind="map", value="reward_gain", value_label="reward"),
        Panel(
            "Price: entropy lost per reward gained",
            "slopes",
            "reward_gain",
            "price",
            kind="points",
            by="cell",
            x_label="reward gained",
            y_label="nats per unit of reward",
            zero=True,
        ),
    ),
)
