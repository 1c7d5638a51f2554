"""The sign rule A dH <= 0 along GRPO runs, against the covariance and the sum over sampled tokens as predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import policy_gradient, tree_of
from simulations.experiment import Cell, Experiment, Panel, Rows, mean_and_interval
from simulations.ledger import difference, exact_values, inner, ledger, row_denominators, slope_and_curvature
from simulations.loop import Setting, Simulation, Step, Trace
from simulations.networks import Recurrent
from simulations.policies import MLP, Parameters, Policy, Table, Tree
from simulations.problems import Problem, bandit, sequences
from trainer.methods.assembly import assemble
from trainer.methods.pipeline import weighted_advantages

SHARES = {
    "holds": "a token alone, by count",
    "holds_weighted": "a token alone, by |dH|",
    "context_holds": "whole step at its context, by count",
    "context_holds_weighted": "whole step at its context, by |dH|",
}
PREDICTORS = {
    "signs": "counts of signs, best line",
    "covariance": "covariance (X1)",
    "expected": "X1 with shared parameters",
    "tokens": "sum over tokens (E4)",
    "first_order": "E4 with shared parameters",
    "second_order": "the same to second order",
}


@dataclass(frozen=True)
class Options:
    """Sizes of the runs.

    Args:
        seed: of first parameters, rewards and draws.
        repeats: runs of each policy and group size.
        prompts: of a run.
        arms: V of the bandits.
        correct: arms with reward 1, from the hardest prompt's to the easiest's.
        vocabulary: V of the policies over sequences.
        length: T of these.
        correct_share: of sequences with reward 1, from the hardest prompt's to the easiest's.
        hidden: units of the networks.
        group_sizes: G, samples a prompt and step.
        table_rate: learning rate of one context's logits in the tables.
        network_rate: learning rate of the networks.
        steps: of a run.
        every: steps from one measured step to the next.
    """

    seed: int = 0
    repeats: int = 16
    prompts: int = 16
    arms: int = 20
    correct: tuple[int, int] = (2, 8)
    vocabulary: int = 4
    length: int = 3
    correct_share: tuple[float, float] = (0.1, 0.4)
    hidden: int = 16
    group_sizes: tuple[int, ...] = (4, 8, 16)
    table_rate: float = 0.3
    network_rate: float = 0.3
    steps: int = 240
    every: int = 6

    def __post_init__(self) -> None:
        if self.repeats < 2 or self.steps < 4 * self.every:
            raise ValueError(
                f"--repeats {self.repeats} must be at least 2 and --steps {self.steps} at least 4 times --every "
                f"{self.every}: standard errors and correlations need them."
            )


OWN_LOGITS = ("table", "tree")
POLICIES = ("table", "mlp", "tree", "recurrent")


def cells(options: Options) -> list[Cell]:
    """Return a cell for each policy and group size."""
    return [
        Cell(f"{name}_g{size}", partial(run, name, size, options)) for name in POLICIES for size in options.group_sizes
    ]


def run(name: str, group_size: int, options: Options) -> Rows:
    """Train one policy by GRPO, and measure every few steps."""
    policy, problem, rate = built(name, options)
    setting = Setting(
        policy=policy,
        problem=problem,
        algorithm=assemble({"advantage": "grpo", "denominator": "zero"}, group_size=group_size),
        steps=options.steps,
        learning_rate=rate,
        group_size=group_size,
        measure=False,
    )
    rows = []
    for step in Simulation(setting, options.repeats, seed=options.seed, trace=True):
        if step.step % options.every:
            continue
        found = observed(setting, step)
        for repeat in range(options.repeats):
            rows.append(
                {
                    "policy": name,
                    "group_size": group_size,
                    "repeat": repeat,
                    "step": step.step,
                    **{key: float(value[repeat]) for key, value in found.items()},
                }
            )
    return rows


def built(name: str, options: Options) -> tuple[Policy, Problem, float]:
    """Return a policy, its rewards and its learning rate."""
    generator = torch.Generator().manual_seed(options.seed)
    prompts, arms, vocabulary, length = options.prompts, options.arms, options.vocabulary, options.length
    if name in ("table", "mlp"):
        problem = bandit(prompts, arms, options.correct, generator=generator)
        if name == "table":
            return Table(prompts, arms), problem, options.table_rate * prompts
        features = torch.randn(prompts, 8, generator=generator, dtype=torch.float64)
        return MLP(features / features.norm(dim=-1, keepdim=True), arms, options.hidden), problem, options.network_rate
    problem = sequences(prompts, vocabulary, length, options.correct_share, generator=generator)
    if name == "tree":
        return Tree(prompts, vocabulary, length), problem, options.table_rate * prompts * length
    return Recurrent(prompts, vocabulary, length, options.hidden), problem, options.network_rate


def observed(setting: Setting, step: Step) -> dict[str, Float[Tensor, " R"]]:
    """Return how often the sign rule holds in a step, and what each predictor says of its change."""
    trace = step.trace
    assert trace is not None
    book = ledger(setting, trace)
    advantages = weighted_advantages(trace.filtered, trace.rollouts.record.mask)
    before = trace.before.parameters
    with torch.no_grad():
        old = tree_of(setting.policy, before)
        rewards = setting.problem.table(len(book.measured), trace.rollouts.rewards)
        values = exact_values(setting, rewards, old.probabilities, None)
    slope, _ = slope_and_curvature(setting, before, old, difference(trace.after.parameters, before))
    _, uphill = policy_gradient(setting.policy, before, values)
    alone = changes_alone(setting, trace, slope)
    context = changes_at_contexts(setting, trace)
    tokens = book.covariance + book.sampling + book.selection
    return {
        "entropy": old.entropy(),
        "holds": share(advantages, alone, weighted=False),
        "holds_weighted": share(advantages, alone, weighted=True),
        "context_holds": share(advantages, context, weighted=False),
        "context_holds_weighted": share(advantages, context, weighted=True),
        "measured": book.measured,
        # All that the rule alone can say of a step: more positives, less entropy. Sizes of advantages sum to 0.
        "signs": -advantages.sign().mean((-2, -1)),
        "covariance": book.covariance,
        "expected": trace.learning_rate * inner(slope, uphill),
        "tokens": tokens,
        "first_order": tokens + book.shared,
        "second_order": tokens + book.shared + book.second_order,
    }


def share(
    advantages: Float[Tensor, "R B T"], changes: Float[Tensor, "R B T"], *, weighted: bool
) -> Float[Tensor, " R"]:
    """Return the share of tokens with an advantage for which A dH <= 0; NaN where no token has one.

    >>> a, change = torch.tensor([[[1.0], [1.0], [-1.0]]]), torch.tensor([[[-3.0], [1.0], [0.5]]])
    >>> share(a, change, weighted=False).round(decimals=3), share(a, change, weighted=True).round(decimals=3)
    (tensor([0.6670]), tensor([0.7780]))
    """
    weights = (advantages != 0) * (changes.abs() if weighted else torch.ones_like(changes))
    return (weights * (advantages * changes <= 0)).sum((-2, -1)) / weights.sum((-2, -1))


def changes_alone(setting: Setting, trace: Trace, slope: Parameters) -> Float[Tensor, "R B T"]:
    """Return what each token's part of the update does to the mean entropy of a token, at first order.

    eta A_u / d_u <grad log p_u, grad H>, over all contexts that share parameters with u: one forward derivative of all
    log p along grad H, the slope.
    """
    policy, rollouts, before = setting.policy, trace.rollouts, trace.before.parameters

    def log_probs(parameters: Parameters) -> Tensor:
        logits = policy.logits(parameters, rollouts.prompts, rollouts.tokens)
        return logits.log_softmax(-1).gather(-1, rollouts.contexts.by_context(rollouts.tokens))

    influence = torch.func.jvp(log_probs, (before,), (slope,))[1]
    advantages = weighted_advantages(trace.filtered, rollouts.record.mask)
    lengths, weights = rollouts.record.lengths.flatten(-2), trace.filtered.weights.flatten(-2)
    per_row = trace.learning_rate[:, None] / row_denominators(setting, lengths, weights)
    return advantages * per_row[..., None] * influence.reshape(advantages.shape)


@torch.no_grad()
def changes_at_contexts(setting: Setting, trace: Trace) -> Float[Tensor, "R B T"]:
    """Return the measured change of the entropy at each token's own context over the whole step."""
    rollouts = trace.rollouts
    logits = setting.policy.logits(trace.after.parameters, rollouts.prompts, rollouts.tokens)
    after = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    change = after - rollouts.contexts.entropy
    return rollouts.contexts.per_token(change, rollouts.tokens.shape).flatten(1, 2)


CASE = ["policy", "group_size"]


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the shares and the predictors' quality, by case and by entropy, and one run's predictions."""
    rows = rows.assign(range=ranges(rows.entropy))
    means = rows.groupby([*CASE, "repeat"], sort=False)[list(SHARES)].mean().reset_index()
    shares = mean_and_interval(means.melt([*CASE, "repeat"], list(SHARES), "share"), [*CASE, "share"], "value")
    shares["label"] = shares.policy + ": " + shares.share.map(SHARES)
    of_range = rows.groupby([*CASE, "range", "repeat"], sort=False)[["entropy", *SHARES]].mean().reset_index()
    long = of_range.melt([*CASE, "range", "repeat", "entropy"], list(SHARES), "share").dropna()
    by_entropy = mean_and_interval(long, [*CASE, "range", "share"], "value")
    middles = long.groupby([*CASE, "range", "share"], sort=False).entropy.mean().reset_index()
    by_entropy = by_entropy.merge(middles).sort_values([*CASE, "share", "entropy"])
    by_entropy["label"] = by_entropy.policy + ": " + by_entropy.share.map(SHARES)
    by_run = scores(rows, [*CASE, "repeat"])
    predictors = mean_and_interval(by_run, [*CASE, "predictor"], "r2")
    correlations = mean_and_interval(by_run, [*CASE, "predictor"], "correlation")
    predictors = predictors.assign(correlation=correlations.correlation, correlation_error=correlations.error)
    predictors["label"] = predictors.policy + ": " + predictors.predictor.map(PREDICTORS)
    middle = middle_size(rows)
    one_run = rows[(rows.repeat == rows.repeat.min()) & (rows.group_size == middle)]
    points = one_run.melt([*CASE, "step", "measured"], ["expected", "first_order"], "predictor", "predicted")
    return {
        "shares": shares,
        "predictors": predictors,
        "shares_by_entropy": by_entropy,
        "predictors_by_entropy": scores(rows, [*CASE, "range"]),
        "middle_shares": by_entropy[(by_entropy.group_size == middle) & by_entropy.share.str.startswith("holds")],
        "middle_predictors": predictors[predictors.group_size == middle].assign(
            predictor=lambda part: part.predictor.map(PREDICTORS)
        ),
        "growing_predictors": predictors[predictors.predictor.isin(["signs", "expected", "first_order"])],
        "middle_readings": shares[shares.group_size == middle].assign(reading=lambda part: part.share.map(SHARES)),
        "predictions": points.assign(identity=points.predicted, predictor=points.predictor.map(PREDICTORS)),
    }


def ranges(entropy: pd.Series) -> pd.Series:
    """Return the range of each entropy, nats."""
    edges = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, np.inf]
    names = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    return pd.cut(entropy, edges, labels=names, include_lowest=True).astype(str)


def middle_size(rows: pd.DataFrame) -> int:
    """Return the middle group size."""
    sizes = sorted(rows.group_size.unique())
    return int(sizes[(len(sizes) - 1) // 2])


def scores(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return how well each predictor does over the steps of each group."""
    return pd.DataFrame(
        [
            {**dict(zip(by, key, strict=True)), "predictor": name, "steps": len(part), **score(part, name)}
            for key, part in rows.groupby(by, sort=False)
            for name in PREDICTORS
            if len(part) > 2
        ]
    )


def score(part: pd.DataFrame, name: str) -> dict[str, float]:
    """Return the correlation with the measured change, and R2 against the identity.

    Counts of signs have no size: their R2 is that of the best line through the very steps it is judged on.
    """
    measured, predicted = part.measured.to_numpy(), part[name].to_numpy()
    spread = ((measured - measured.mean()) ** 2).sum()
    around = ((predicted - predicted.mean()) ** 2).sum()
    if not (spread > 0 and around > 0):
        return {"r2": float("nan"), "correlation": float("nan")}
    product = ((measured - measured.mean()) * (predicted - predicted.mean())).sum()
    correlation = float(product / (spread * around) ** 0.5)
    r2 = correlation**2 if name == "signs" else float(1 - ((measured - predicted) ** 2).sum() / spread)
    return {"r2": r2, "correlation": correlation}


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return whether the rule is one, and which predictor says what a step does."""
    shares, predictors, by_entropy = found["shares"], found["predictors"], found["shares_by_entropy"]
    above = {name: count(shares[shares.share == name], 1) for name in SHARES}
    below = {name: count(shares[shares.share == name], -1) for name in SHARES}
    cases = len(shares[shares.share == "holds"])
    best = [above[name] for name in ("holds", "holds_weighted")]
    verdict = "holds" if best == [cases, cases] else "holds in part" if any(best) else "does not hold"
    told = "; ".join(f"{text}: {above[name]} and {below[name]}" for name, text in SHARES.items())
    lines = [
        f"The claim {verdict}, as no more than a tendency. Cases (policy and group size) of {cases} in which the rule "
        f"holds for more than half, and for less than half, by 2 standard errors: {told}."
    ]
    middle = middle_size(predictors)
    for policy in predictors.policy.unique():
        rule = shares[(shares.policy == policy) & (shares.group_size == middle)].set_index("share")
        good = predictors[(predictors.policy == policy) & (predictors.group_size == middle)].set_index("predictor")
        lines.append(
            f"{policy}, G = {middle}: the rule holds for {number(rule, 'holds', 'value')} of sampled tokens by count, "
            f"{number(rule, 'holds_weighted', 'value')} by |dH|; for the whole step at the token's context, "
            f"{number(rule, 'context_holds', 'value')} and {number(rule, 'context_holds_weighted', 'value')}. R2 of a "
            f"step's change: {', '.join(f'{text} {number(good, name)}' for name, text in PREDICTORS.items())}."
        )
    own = predictors.policy.isin(OWN_LOGITS)
    for name, text in PREDICTORS.items():
        parts = []
        for kind, kept in (("own logits", own), ("shared parameters", ~own)):
            part = predictors[(predictors.predictor == name) & kept]
            if len(part):
                sizes = [f"{part[part.group_size == size].r2.mean():.3f}" for size in part.group_size.unique()]
                parts.append(
                    f"{kind} {' / '.join(sizes)}, correlation {part.correlation.min():.2f} to "
                    f"{part.correlation.max():.2f}"
                )
        lines.append(f"R2 of {text}, at G = {list(map(int, predictors.group_size.unique()))}: {'; '.join(parts)}.")
    weighted = by_entropy[by_entropy.share == "holds_weighted"]
    counted = by_entropy[by_entropy.share == "holds"]
    ordered = weighted.sort_values("value")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    lines.append(
        f"Over ranges of entropy the share by |dH| goes from {low.value:.3f} +- {low.error:.3f} ({low.policy}, G = "
        f"{low.group_size}, {low.range} nats) to {high.value:.3f} +- {high.error:.3f} ({high.policy}, G = "
        f"{high.group_size}, {high.range} nats); by count from {counted.value.min():.3f} to {counted.value.max():.3f}."
    )
    return lines


def count(shares: pd.DataFrame, side: int) -> int:
    """Return how many shares are on one side of a half by 2 standard errors."""
    return int((side * (shares.value - 0.5) > 2 * shares.error).sum())


def number(frame: pd.DataFrame, row: str, column: str = "r2") -> str:
    """Return a mean with its standard error."""
    return f"{frame[column].loc[row]:.3f} +- {frame.error.loc[row]:.3f}"


EXPERIMENT = Experiment(
    name="sign_rule",
    claim="The sign of a token's advantage says what its update does to entropy: A dH <= 0.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        Panel(
            "How often A dH <= 0, each token's update alone",
            "middle_shares",
            "entropy",
            "value",
            by="label",
            low="low",
            high="high",
            x_label="entropy (nats per token)",
            y_label="share",
        ),
        Panel(
            "A step's entropy change against its prediction",
            "predictions",
            "predicted",
            "measured",
            kind="points",
            by="predictor",
            x_label="predicted (nats per token)",
            y_label="measured (nats per token)",
            reference=("identity",),
            zero=True,
        ),
        Panel(
            "R2 of a step's entropy change, at the middle G",
            "middle_predictors",
            "policy",
            "r2",
            kind="bar",
            by="predictor",
            low="low",
            high="high",
            y_label="R2 against the identity",
            zero=True,
        ),
        Panel(
            "R2 with shared parameters, over G",
            "growing_predictors",
            "group_size",
            "r2",
            by="label",
            low="low",
            high="high",
            x_label="G",
            y_label="R2 against the identity",
            x_log=True,
        ),
        Panel(
            "How often A dH <= 0 over a run, at the middle G",
            "middle_readings",
            "policy",
            "value",
            kind="bar",
            by="reading",
            low="low",
            high="high",
            y_label="share",
        ),
    ),
)
