"""Positives-only and negatives-only: the same expected gradient, and what denominators and normalisation make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import ExactAdvantages, expected_advantages
from simulations.experiment import Cell, Experiment, Panel, Rows, mean_and_interval
from simulations.loop import Setting, Simulation
from simulations.policies import Table
from simulations.problems import Problem, bandit
from trainer.methods.advantages import GRPO, nsr, raft
from trainer.methods.assembly import assemble
from trainer.methods.schedules import Constant

SIDES = {"positives": 1, "negatives": -1}
DENOMINATORS = ("zero", "drop")
LIMIT = 3.0


@dataclass(frozen=True)
class Options:
    """Sizes: 400 bandits, each with logits of its own, are `repeats` batches of `prompts`.

    Args:
        seed: of first parameters and draws.
        repeats: independent batches, each with its own first parameters.
        prompts: bandits of a batch, which share the denominator `drop`.
        arms: of a bandit.
        correct: arms with reward 1.
        spread: fewest and most correct arms of a batch whose prompts differ in difficulty.
        group_size: G, samples a bandit and step.
        time: learning rate times steps, the same for every rate.
        rates: learning rates of one bandit's logits, with advantages r and r - 1.
        grpo_rates: the same with GRPO's normalised advantages.
        records: how often entropy is recorded after the start.
    """

    seed: int = 0
    repeats: int = 20
    prompts: int = 20
    arms: int = 20
    correct: int = 5
    spread: tuple[int, int] = (1, 19)
    group_size: int = 8
    time: float = 40.0
    rates: tuple[float, ...] = (0.02, 1.0)
    grpo_rates: tuple[float, ...] = (0.1, 1.0)
    records: int = 20

    def __post_init__(self) -> None:
        if self.repeats < 2:
            raise ValueError(f"--repeats {self.repeats} must be at least 2: differences need a standard error.")
        for rate in (*self.rates, *self.grpo_rates):
            if not 0 < rate <= self.time / self.records:
                raise ValueError(
                    f"--rates must be above 0 and at most time / records = {self.time / self.records:g}, so that every "
                    f"record has a step of its own; got {rate}. Lower the rate or --records."
                )


def cells(options: Options) -> list[Cell]:
    """Return a cell for each kind of advantage, denominator and rate."""
    kinds = [("rewards", options.rates), ("grpo", options.grpo_rates), ("grpo_spread", options.grpo_rates)]
    return [
        Cell(f"{kind}_{denominator}_{rate:g}", partial(run, kind, denominator, rate, options))
        for kind, rates in kinds
        for denominator in DENOMINATORS
        for rate in rates
    ]


def run(kind: str, denominator: str, rate: float, options: Options) -> Rows:
    """Run both sides, each sampled and along its own expected gradient, from the same first parameters."""
    curves: dict[str, Tensor] = {}
    for side in SIDES:
        curves[side] = entropies(setting(kind, side, denominator, rate, options), options)
        expected = setting(kind, side, denominator, rate, options, exact=True)
        curves[f"exact_{side}"] = entropies(expected, options)
    return [
        {
            "advantages": kind,
            "denominator": denominator,
            "rate": rate,
            "repeat": repeat,
            "time": options.time * record / options.records,
            **{name: float(curve[record, repeat]) for name, curve in curves.items()},
        }
        for repeat in range(options.repeats)
        for record in range(options.records + 1)
    ]


def setting(kind: str, side: str, denominator: str, rate: float, options: Options, *, exact: bool = False) -> Setting:
    """Return the runs of one side."""
    if kind == "rewards":
        stages: dict[str, Any] = {"advantage": {"positives": "raft", "negatives": "nsr"}[side], "filter": "nonzero"}
    else:
        stages = {"advantage": "grpo", "filter": "algorithm1"}
    # Algorithm 1 keeps the positives above its band, the negatives below it.
    edge = 0.0 if side == "positives" else 1e3
    return Setting(
        policy=Table(options.prompts, options.arms, scale=1.0),
        problem=problem(kind, options),
        algorithm=assemble({**stages, "denominator": denominator}, group_size=options.group_size),
        steps=round(options.time / rate),
        learning_rate=rate * options.prompts,
        group_size=options.group_size,
        schedule=Constant((edge, edge), (edge, edge)),
        exact_gradient=exact,
        exact_advantages=expectation(kind, side, denominator, options.group_size) if exact else None,
        measure=False,
    )


def problem(kind: str, options: Options) -> Problem:
    """Return prompts of one difficulty or of many."""
    return bandit(options.prompts, options.arms, options.spread if kind == "grpo_spread" else options.correct)


def expectation(kind: str, side: str, denominator: str, group_size: int) -> ExactAdvantages:
    """Return the expected advantage of each arm, over the expected share of kept samples where that divides."""

    def used(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
        if kind == "rewards":
            return raft(rewards) if side == "positives" else nsr(rewards)
        return SIDES[side] * (SIDES[side] * GRPO()(rewards)).clamp(min=0)

    def kept(rewards: Float[Tensor, "*R P G"]) -> Float[Tensor, "*R P G"]:
        found = used(rewards) != 0 if kind == "rewards" else SIDES[side] * GRPO()(rewards) >= 0
        return found.to(rewards)

    def expected(rewards: Float[Tensor, "R P Y"], probabilities: Float[Tensor, "R P Y"]) -> Float[Tensor, "R P Y"]:
        values = expected_advantages(used, rewards, probabilities, group_size)
        if denominator == "zero":
            return values
        share = expected_advantages(kept, rewards, probabilities, group_size)
        return values / (probabilities * share).sum(-1, keepdim=True).mean(-2, keepdim=True)

    return expected


def entropies(setting: Setting, options: Options) -> Float[Tensor, "records R"]:
    """Return the entropy at every record."""
    at = {round(setting.steps * record / options.records) for record in range(options.records + 1)}
    runs = Simulation(setting, options.repeats, seed=options.seed)
    # A step's entropy is the one before its update, so that the last record needs one step more.
    found = [step.entropy for step in runs if step.step in at]
    return torch.stack([*found, runs.advance().entropy])


KEYS = ["advantages", "denominator", "rate"]


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the curves of both sides, their paired differences over time, and what stands at the end."""
    sides = [*SIDES, *(f"exact_{side}" for side in SIDES)]
    rows = rows.assign(difference=rows.positives - rows.negatives, case=case(rows))
    long = rows.melt([*KEYS, "repeat", "time"], sides, "run", "entropy")
    curves = mean_and_interval(long, [*KEYS, "run", "time"], "entropy")
    differences = mean_and_interval(rows, ["case", *KEYS, "time"], "difference")
    differences["z"] = differences.difference / differences.error.where(differences.error > 0)
    differences["side"] = differences.difference.gt(LIMIT * differences.error).astype(float)
    differences["side"] -= differences.difference.lt(-LIMIT * differences.error)
    last = rows[rows.time == rows.time.max()]
    summary = last.groupby(["case", *KEYS], sort=False)[sides].mean().reset_index()
    summary = summary.merge(differences[differences.time == rows.time.max()].drop(columns="time"), on=["case", *KEYS])
    after = differences[differences.time > 0].groupby("case", sort=False)
    summary["greatest_z"] = [part.z.fillna(0.0).iloc[part.z.fillna(0.0).abs().argmax()] for _, part in after]
    summary["positives_lower"] = after.side.agg(lambda side: (side < 0).mean()).to_numpy()
    summary["negatives_lower"] = after.side.agg(lambda side: (side > 0).mean()).to_numpy()
    ends = curves[(curves.time == rows.time.max()) & (curves.run == "exact_positives")]
    summary["exact_error"] = ends.error.to_numpy()
    for side in SIDES:
        off = mean_and_interval(last.assign(off=last[side] - last[f"exact_{side}"]), KEYS, "off")
        summary[f"{side}_off"], summary[f"{side}_off_error"] = off.off, off.error
        summary[f"{side}_speed"] = [speeds(curves, side, row) for row in summary.itertuples()]
    found = {"curves": curves, "differences": differences, "summary": summary}
    for kind in rows.advantages.unique():
        part = curves[(curves.advantages == kind) & (curves.rate == curves[curves.advantages == kind].rate.min())]
        found[f"curves_{kind}"] = part.assign(run=part.run + ", " + part.denominator)
    return found


def case(rows: pd.DataFrame) -> pd.Series:
    """Return the name of each row's setting."""
    return rows.advantages + " / " + rows.denominator + " / " + rows.rate.map("{:g}".format)


def speeds(curves: pd.DataFrame, side: str, case: Any) -> float:
    """Return how much sooner than along r's expected gradient entropy has fallen half as far as that makes it fall."""

    def curve(denominator: str, run: str) -> pd.DataFrame:
        kept = (curves.advantages == case.advantages) & (curves.denominator == denominator) & (curves.rate == case.rate)
        return curves[kept & (curves.run == run)]

    plain = curve("zero", "exact_positives")
    level = (plain.entropy.iloc[0] + plain.entropy.iloc[-1]) / 2
    return crossing(plain, level) / crossing(curve(case.denominator, side), level)


def crossing(curve: pd.DataFrame, level: float) -> float:
    """Return when a curve first falls to a level, linear between records; NaN where it does not."""
    below = (curve.entropy.to_numpy() <= level).nonzero()[0]
    if not len(below) or below[0] == 0:
        return float("nan")
    last = curve.iloc[below[0] - 1 : below[0] + 1]
    share = (last.entropy.iloc[0] - level) / (last.entropy.iloc[0] - last.entropy.iloc[1])
    return float(last.time.iloc[0] + share * (last.time.iloc[1] - last.time.iloc[0]))


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return both sides' entropies at the end, their difference over time, and whether they moved alike."""
    summary = found["summary"]
    time, start = found["curves"].time.max(), found["curves"][found["curves"].time == 0].entropy.mean()
    alike = summary[(summary.positives_lower == 0) & (summary.negatives_lower == 0)]
    verdict = "holds" if len(alike) == len(summary) else "holds in part" if len(alike) else "does not hold"
    lines = [
        f"The claim {verdict}: up to rate x steps = {time:g}, from {start:.3f} nats, positives-only and negatives-only "
        f"stay within {LIMIT:g} standard errors of each other in {len(alike)} of {len(summary)} settings{names(alike)}."
    ]
    for row in summary.itertuples():
        lines.append(
            f"{row.case}: positives {row.positives:.3f}, negatives {row.negatives:.3f} nats at the end; positives - "
            f"negatives {row.difference:+.4f} +- {row.error:.4f} (z {row.z:+.1f}, greatest on the way "
            f"{row.greatest_z:+.1f}). Expected gradients alone: {row.exact_positives:.3f} and "
            f"{row.exact_negatives:.3f} (+- {row.exact_error:.3f} over first policies); sampling shifts the two by "
            f"{row.positives_off:+.4f} +- {row.positives_off_error:.4f} and {row.negatives_off:+.4f} +- "
            f"{row.negatives_off_error:.4f}."
        )
    drop = summary[(summary.advantages == "rewards") & (summary.denominator == "drop")]
    for row in drop.itertuples():
        lines.append(
            f"Dividing by the kept samples at rate {row.rate:g}: entropy falls half as far as along the expected "
            f"gradient of r {row.positives_speed:.2f} times as fast with positives, {row.negatives_speed:.2f} times "
            "with negatives."
        )
    normalised = summary[summary.advantages != "rewards"]
    ends = normalised[normalised.difference > LIMIT * normalised.error]
    never = ends[ends.positives_lower == 0]
    lines.append(
        f"GRPO's normalised advantages: negatives-only ends lower than positives-only, against the sign rule, in "
        f"{len(ends)} of {len(normalised)} settings, and is nowhere on the way the higher one in {len(never)} of these"
        f"{names(never)}."
    )
    return lines


def names(settings: pd.DataFrame) -> str:
    """Return the settings' names in brackets, nothing for none."""
    return f" ({', '.join(settings.case)})" if len(settings) else ""


EXPERIMENT = Experiment(
    name="one_sided",
    claim="On-policy, positives-only and negatives-only training move entropy identically.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        *(
            Panel(
                title,
                f"curves_{kind}",
                "time",
                "entropy",
                by="run",
                low="low",
                high="high",
                x_label="learning rate x steps",
                y_label="entropy (nats)",
            )
            for kind, title in (
                ("rewards", "Advantages r and r - 1"),
                ("grpo", "GRPO's advantages, one difficulty"),
                ("grpo_spread", "GRPO's advantages, prompts of many difficulties"),
            )
        ),
        Panel(
            "Entropy of positives-only minus negatives-only",
            "differences",
            "time",
            "difference",
            by="case",
            low="low",
            high="high",
            x_label="learning rate x steps",
            y_label="difference (nats)",
            zero=True,
        ),
    ),
)
