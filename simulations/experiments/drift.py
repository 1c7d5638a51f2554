"""Sampling noise moves entropy at second order: its mean over many single steps against theory's X4."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from entropy_theory import drift_coefficient, entropy, entropy_change, expected_change, first_order_change
from simulations.experiment import Cell, Experiment, Panel, Rows
from simulations.loop import Setting, Simulation
from simulations.policies import Table
from simulations.problems import bandit
from trainer.methods.assembly import assemble
from trainer.methods.stages import AdvantageEstimator

KINDS = ("plus", "minus", "signs")
TOLERANCE = 0.05


@dataclass(frozen=True)
class Options:
    """Sizes: from each fixed policy, `repeats` single steps.

    Args:
        seed: of policies and draws.
        repeats: steps from every policy, a vocabulary, group size and rate.
        chunk: of these computed side by side.
        vocabularies: V.
        scales: standard deviations of the policies' logits; the larger, the lower the entropy.
        policies: of each scale.
        group_sizes: G, samples averaged in a step.
        rates: learning rates of one context's logits; size and slope are judged at the first.
    """

    seed: int = 0
    repeats: int = 1000
    chunk: int = 100
    vocabularies: tuple[int, ...] = (5, 20, 100)
    scales: tuple[float, ...] = (0.3, 1.0, 2.0, 3.0, 5.0, 8.0)
    policies: int = 6
    group_sizes: tuple[int, ...] = (1, 4, 16)
    rates: tuple[float, ...] = (0.1, 0.4, 1.0)

    def __post_init__(self) -> None:
        if not 2 <= self.chunk <= self.repeats:
            raise ValueError(f"--chunk {self.chunk} must be between 2 and --repeats {self.repeats}.")
        if len(self.group_sizes) < 2:
            raise ValueError(f"--group_sizes {list(self.group_sizes)} must name at least 2: a slope needs them.")


@dataclass(frozen=True)
class Signs:
    """Advantages of +1 and -1 at random, whatever the rewards.

    Args:
        generator: that draws them.
    """

    generator: torch.Generator

    def __call__(self, rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
        """Return the advantages."""
        return 2 * torch.randint(2, rewards.shape, generator=self.generator).to(rewards) - 1


def cells(options: Options) -> list[Cell]:
    """Return a cell for each vocabulary, kind of advantage and group size."""
    return [
        Cell(f"{kind}_v{vocabulary}_g{size}", partial(run, kind, vocabulary, size, options))
        for vocabulary in options.vocabularies
        for kind in KINDS
        for size in options.group_sizes
    ]


def run(kind: str, vocabulary: int, group_size: int, options: Options) -> Rows:
    """Take single steps from fixed policies at every rate."""
    logits = fixed_policies(vocabulary, options)
    # Draws of the cell's own, so that standard errors of different cells are independent.
    words = (options.seed, KINDS.index(kind), vocabulary, group_size)
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    rows = []
    for rate in options.rates:
        changes = single_steps(logits, advantages(kind, seed), rate, group_size, seed, options)
        predicted = expected_change(logits, torch.ones_like(logits), rate, group_size, order=2)
        mean, error = changes.mean(0), changes.std(0) / len(changes) ** 0.5
        for policy in range(len(logits)):
            rows.append(
                {
                    "advantages": kind,
                    "vocabulary": vocabulary,
                    "group_size": group_size,
                    "rate": rate,
                    "policy": policy,
                    "entropy": float(entropy(logits)[policy]),
                    "drift": float(drift_coefficient(logits)[policy]),
                    "predicted": float(predicted[policy]),
                    "measured": float(mean[policy, 0]),
                    "error": float(error[policy, 0]),
                    "plain": float(mean[policy, 1]),
                    "plain_error": float(error[policy, 1]),
                }
            )
    return rows


def fixed_policies(vocabulary: int, options: Options) -> Float[Tensor, "P V"]:
    """Return logits of every scale."""
    generator = torch.Generator().manual_seed(options.seed)
    shape = (options.policies, vocabulary)
    return torch.cat([scale * torch.randn(shape, generator=generator, dtype=torch.float64) for scale in options.scales])


def advantages(kind: str, seed: int) -> AdvantageEstimator:
    """Return an estimator whose advantages have square 1 and say nothing of the sample."""
    if kind == "signs":
        return Signs(torch.Generator().manual_seed(seed + 1))
    value = {"plus": 1.0, "minus": -1.0}[kind]
    return lambda rewards: torch.full_like(rewards, value)


def single_steps(
    logits: Float[Tensor, "P V"],
    advantage: AdvantageEstimator,
    rate: float,
    group_size: int,
    seed: int,
    options: Options,
) -> Float[Tensor, "N P 2"]:
    """Return each step's entropy change from the policies: less its first order, and as it is.

    The first order, -eta / G sum A (S_k - N), has mean 0 exactly here (X2) and most of the variance: without it the
    mean is the same and needs far fewer steps.
    """
    prompts, vocabulary = logits.shape
    setting = Setting(
        policy=Table(prompts, vocabulary, scale=0.0, initial=logits),
        problem=bandit(prompts, vocabulary),
        algorithm=replace(assemble({"advantage": "reinforce", "denominator": "zero"}), advantage=advantage),
        steps=1,
        learning_rate=rate * prompts,
        group_size=group_size,
        measure=False,
    )
    runs = Simulation(setting, options.chunk, seed=seed)
    start, found = runs.state, []
    for _ in range(options.repeats // options.chunk):
        runs.state = start
        runs.advance()
        before, after = start.parameters["logits"], runs.state.parameters["logits"]
        change = entropy_change(before, after - before)
        found.append(torch.stack([change - first_order_change(before, after - before), change], -1))
    return torch.cat(found)


KEYS = ["advantages", "vocabulary", "rate"]


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return every policy's mean, the size of the drift against X4, its slope in G, and its sign over entropy."""
    rows = rows.assign(
        low=rows.measured - 2 * rows.error,
        high=rows.measured + 2 * rows.error,
        scaled=rows.measured * 2 * rows.group_size / rows.rate**2,
        scaled_error=rows.error * 2 * rows.group_size / rows.rate**2,
        seen=rows.measured.abs() > 3 * rows.error,
        agrees=rows.measured * rows.predicted > 0,
    )
    sizes = pd.DataFrame(
        [
            {**dict(zip([*KEYS, "group_size"], key, strict=True)), **size(part)}
            for key, part in rows.groupby([*KEYS, "group_size"], sort=False)
        ]
    )
    sizes = sizes.assign(low=sizes.ratio - 2 * sizes.error, high=sizes.ratio + 2 * sizes.error, one=1.0)
    sizes["case"] = sizes.advantages + ", V = " + sizes.vocabulary.astype(str)
    smallest = rows[rows.rate == rows.rate.min()]
    slopes = pd.DataFrame(
        [{**dict(zip(KEYS, key, strict=True)), **slope(part)} for key, part in smallest.groupby(KEYS, sort=False)]
    )
    sums = smallest.assign(total=smallest.measured * np.sign(smallest.drift)).groupby([*KEYS, "group_size"], sort=False)
    totals = sums.total.mean().reset_index()
    totals["case"] = totals.advantages + ", V = " + totals.vocabulary.astype(str)
    return {
        "policies": rows,
        "predictions": smallest[smallest.group_size == smallest.group_size.min()].assign(vocabulary=vocabulary_name),
        "sizes": sizes,
        "smallest_group": sizes[sizes.group_size == sizes.group_size.min()],
        "slopes": slopes,
        "totals": totals,
        "signs": signs(smallest),
    }


def vocabulary_name(rows: pd.DataFrame) -> pd.Series:
    """Return the vocabulary as a label."""
    return "V = " + rows.vocabulary.astype(str)


def size(part: pd.DataFrame) -> dict[str, float]:
    """Return the measured drift in units of the predicted one: the slope through 0 over the policies."""
    weight = (part.predicted**2).sum()
    return {
        "ratio": (part.measured * part.predicted).sum() / weight,
        "error": ((part.error * part.predicted) ** 2).sum() ** 0.5 / weight,
        "plain_ratio": (part.plain * part.predicted).sum() / weight,
        "plain_error": ((part.plain_error * part.predicted) ** 2).sum() ** 0.5 / weight,
    }


def slope(part: pd.DataFrame) -> dict[str, float]:
    """Return the exponent of G: weighted least squares of the log of the size on log G.

    The size is the mean over policies of the change, counted along its predicted sign.
    """
    grouped = part.assign(along=part.measured * np.sign(part.drift), square=part.error**2).groupby("group_size")
    total = grouped.along.mean()
    if not (total > 0).all():
        return {"slope": float("nan"), "error": float("nan")}
    error = grouped.square.sum() ** 0.5 / grouped.size() / total
    x, weight = np.log(total.index.to_numpy(float)), 1 / error.to_numpy() ** 2
    centred = x - (weight * x).sum() / weight.sum()
    spread = (weight * centred**2).sum()
    return {"slope": float((weight * centred * np.log(total.to_numpy())).sum() / spread), "error": float(spread**-0.5)}


def signs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, by entropy, how many policies the drift lowers, predicted and measured."""
    edges = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf]
    names = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    rows = rows.assign(range=pd.cut(rows.entropy, edges, labels=names), lowers=rows.drift < 0)
    rows = rows.assign(measured_lowers=(rows.measured < 0).where(rows.seen))
    found = rows.groupby(["vocabulary", "range"], observed=True).agg(
        policies=("policy", "nunique"),
        entropy=("entropy", "mean"),
        drift=("drift", "mean"),
        lowers=("lowers", "mean"),
        measured_lowers=("measured_lowers", "mean"),
    )
    return found.reset_index()


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return whether sign, size and slope are those of X4."""
    policies, sizes, slopes = found["policies"], found["sizes"], found["slopes"]
    rate = policies.rate.min()
    here = policies[(policies.rate == rate) & policies.seen]
    wrong = int((~here.agrees).sum())
    judged = sizes[sizes.rate == rate]
    off = judged[(judged.ratio - 1).abs() > TOLERANCE + 2 * judged.error]
    steep = slopes[~((slopes.slope + 1).abs() <= TOLERANCE + 2 * slopes.error)]
    parts = {
        "sign": len(here) > 0 and wrong == 0,
        "size": len(off) == 0,
        "1/G": len(steep) == 0,
    }
    verdict = "holds" if all(parts.values()) else "holds in part" if any(parts.values()) else "does not hold"
    told = ", ".join(f"{name} {'as predicted' if right else 'not as predicted'}" for name, right in parts.items())
    lines = [
        f"The claim {verdict} at rate {rate:g} ({told}; size and exponent within {TOLERANCE:g} and 2 standard errors).",
        f"Sign: of {len(policies[policies.rate == rate])} policies and settings, {len(here)} have a mean change beyond "
        f"3 standard errors; {len(here) - wrong} of these have the sign of D(p).",
        f"Exponent of G: {spread(slopes, 'slope')} over kinds of advantage and vocabularies (-1 predicted).",
    ]
    for value, part in sizes.groupby("rate"):
        lines.append(f"Measured over predicted at rate {value:g}: {spread(part, 'ratio')}.")
    plain = judged.assign(ratio=judged.plain_ratio, error=judged.plain_error)
    lines.append(
        f"Without subtracting the first order, whose mean is 0: {spread(plain, 'ratio')} at rate {rate:g}, the same "
        "number with more noise."
    )
    for low, high, name in ((0.0, 1.0, "Below 1 nat"), (1.0, np.inf, "Above 1 nat")):
        part = here[(here.entropy >= low) & (here.entropy < high)]
        if len(part):
            lines.append(
                f"{name}: noise lowers entropy in {(part.measured < 0).mean():.0%} of the {len(part)} settings beyond "
                "3 standard errors, and raises it in the others; genetic drift always lowers it."
            )
    return lines


def spread(part: pd.DataFrame, name: str) -> str:
    """Return a column's weighted mean with its standard error, and its range."""
    part = part.dropna(subset=[name])
    if not len(part):
        return "none, for the change goes against its predicted sign"
    weight = 1 / part.error**2
    mean = (part[name] * weight).sum() / weight.sum()
    return f"{mean:.3f} +- {weight.sum() ** -0.5:.3f} (from {part[name].min():.3f} to {part[name].max():.3f})"


EXPERIMENT = Experiment(
    name="drift",
    claim="Sampling noise moves entropy at second order, like genetic drift: sign and size by X4, as 1/G.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        Panel(
            "Mean entropy change of a step of noise alone",
            "predictions",
            "predicted",
            "measured",
            kind="points",
            by="vocabulary",
            low="low",
            high="high",
            x_label="X4 (nats)",
            y_label="measured (nats)",
            reference=("predicted",),
            zero=True,
        ),
        Panel(
            "Drift over entropy, per rate^2 / 2G",
            "predictions",
            "entropy",
            "scaled",
            kind="points",
            by="vocabulary",
            x_label="entropy (nats)",
            y_label="measured D (nats)",
            zero=True,
        ),
        Panel(
            "Size over group size",
            "totals",
            "group_size",
            "total",
            by="case",
            x_label="G",
            y_label="mean change along D's sign (nats)",
            x_log=True,
            y_log=True,
        ),
        Panel(
            "Measured over predicted, over the learning rate",
            "smallest_group",
            "rate",
            "ratio",
            by="case",
            low="low",
            high="high",
            x_label="learning rate",
            x_log=True,
            reference=("one",),
        ),
    ),
)
