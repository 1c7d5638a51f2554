"""How fast GRPO's entropy falls at other sizes of the vocabulary and lengths of the response."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from simulations.exact import expected_advantages, tree_of
from simulations.experiment import Cell, Experiment, Panel, Rows
from simulations.loop import Setting, Simulation
from simulations.networks import Recurrent
from simulations.policies import Policy, Table, Tree
from simulations.starts import liked_problem, logit_scale
from simulations.summaries import mean_error, power, ratio_error, records, text
from trainer.methods.advantages import GRPO
from trainer.methods.assembly import assemble

COUNTS = ("number", "share")
BEGINNINGS = ("entropy", "spread")
GRADIENTS = ("sampled", "exact")
POLICIES = {"tree": 1.0, "recurrent": 0.05}  # and their rates: a shared parameter moves many tokens
GOOD_FIT = 0.95  # R^2 of a power law


@dataclass(frozen=True)
class Options:
    """Sizes.

    Args:
        seed: of first parameters, problems and draws.
        repeats: runs of each cell.
        vocabularies: arms of the bandits.
        prompts: of a bandit.
        number: right arms where their number is held.
        share: share of right arms where that is held.
        entropy: of the first policy where that is held, nats.
        spread: standard deviation of the first logits where that is held.
        lengths: tokens of a response, of tree and network.
        tokens: vocabulary of tree and network.
        sequence_prompts: of tree and network.
        group_size: G.
        learning_rate: of a token's own logits per unit of its advantage.
        steps: of a bandit's run.
        sequence_steps: of a run over sequences.
    """

    seed: int = 0
    repeats: int = 12
    vocabularies: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000, 2000)
    prompts: int = 32
    number: int = 1
    share: float = 0.2
    entropy: float = 1.2
    spread: float = 1.0
    lengths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    tokens: int = 4
    sequence_prompts: int = 8
    group_size: int = 8
    learning_rate: float = 0.2
    steps: int = 50
    sequence_steps: int = 50


def cells(options: Options) -> list[Cell]:
    """Return a cell a size, and within it one a way of holding the rest."""
    found = []
    for vocabulary in options.vocabularies:
        for count in COUNTS:
            for start in BEGINNINGS:
                for gradient in GRADIENTS:
                    key = f"vocabulary_{vocabulary}_{count}_{start}_{gradient}"
                    found.append(Cell(key, partial(run_bandit, vocabulary, count, start, gradient, options)))
    for length in options.lengths:
        for policy in POLICIES:
            found.append(Cell(f"length_{length}_{policy}", partial(run_sequences, policy, length, options)))
    return found


def run_bandit(vocabulary: int, count: str, start: str, gradient: str, options: Options) -> Rows:
    """Run GRPO on bandits with so many arms."""
    scale = options.spread if start == "spread" else logit_scale(options.entropy, vocabulary)
    right = options.number if count == "number" else max(1, round(options.share * vocabulary))
    setting = setting_of(
        Table(options.prompts, vocabulary, scale=scale), (right, right), 1.0, options.steps, gradient, options
    )
    simulation = Simulation(setting, options.repeats, seed=options.seed)
    before = tree_of(setting.policy, simulation.state.parameters)
    for _ in simulation:
        pass
    after = tree_of(setting.policy, simulation.state.parameters)
    columns = {"before": before.entropy(), "after": after.entropy(), "success": before.expected(simulation.rewards)}
    known = {"part": "vocabulary", "count": count, "start": start, "gradient": gradient, "size": vocabulary}
    return rows_of(columns, known, options.learning_rate * options.steps)


def policy_of(name: str, length: int, options: Options) -> Policy:
    """Return a policy over responses of some length."""
    sizes = options.sequence_prompts, options.tokens
    if name == "tree":
        return Tree(*sizes, length)
    return Recurrent(*sizes, length)


def run_sequences(name: str, length: int, options: Options) -> Rows:
    """Run GRPO on responses of some length, and split each change of entropy as the ledger does."""
    policy = policy_of(name, length, options)
    right = max(1, round(options.share * options.tokens**length))
    setting = setting_of(policy, (right, right), POLICIES[name], options.sequence_steps, "sampled", options)
    simulation = Simulation(setting, options.repeats, seed=options.seed)
    old = tree_of(policy, simulation.state.parameters)
    before, success = old.entropy(), old.expected(simulation.rewards)
    shift = torch.zeros_like(before)
    for _ in simulation:
        new = tree_of(policy, simulation.state.parameters)
        shift = shift + context_shift(old.entropy(), new.entropy(old.reach), new.entropy())
        old = new
    columns = {"before": before, "after": old.entropy(), "success": success, "shift": shift}
    known = {"part": "length", "policy": name, "size": length}
    return rows_of(columns, known, options.learning_rate * options.sequence_steps)


def context_shift(before: Tensor, on_old_contexts: Tensor, after: Tensor) -> Tensor:
    """Return the part of a change of entropy that comes from new contexts, as `ledger.Ledger` has it."""
    return (after - before) - (on_old_contexts - before)


def setting_of(
    policy: Policy, correct: tuple[int, int], rate: float, steps: int, gradient: str, options: Options
) -> Setting:
    """Return GRPO's setting; a token's own logits move by the rate times its advantage over G."""

    def advantages(rewards: Float[Tensor, "R P Y"], probabilities: Float[Tensor, "R P Y"]) -> Float[Tensor, "R P Y"]:
        return expected_advantages(GRPO(), rewards, probabilities, options.group_size)

    return Setting(
        policy=policy,
        problem=liked_problem(policy, options.repeats, options.seed, correct, 0.0, dtype=torch.float64),
        algorithm=assemble({}, group_size=options.group_size),
        steps=steps,
        learning_rate=options.learning_rate * rate * policy.prompts * policy.length,
        group_size=options.group_size,
        exact_gradient=gradient == "exact",
        exact_advantages=advantages,
        measure=False,
    )


def rows_of(columns: Mapping[str, Float[Tensor, "R"]], known: Mapping[str, Any], time: float) -> Rows:
    """Return a row a repeat."""
    repeats = len(next(iter(columns.values())))
    return [
        {**known, "repeat": repeat, "time": time, **{name: float(x[repeat]) for name, x in columns.items()}}
        for repeat in range(repeats)
    ]


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the fall per unit of time at each size, and the power laws fitted to it."""
    rows = rows.assign(fall=(rows.before - rows.after) / rows.time)
    bandits, sequences = rows[rows["part"] == "vocabulary"], rows[rows["part"] == "length"]
    held = ["count", "start", "gradient"]
    vocabulary = at_sizes(bandits, held)
    vocabulary = vocabulary.assign(line=vocabulary["count"] + ", " + vocabulary.start + ", " + vocabulary.gradient)
    return {
        "vocabulary": vocabulary,
        "vocabulary_fits": fits(bandits, held),
        "length": at_sizes(sequences, ["policy"]),
        "length_fits": fits(sequences, ["policy"]),
    }


def at_sizes(rows: pd.DataFrame, held: list[str]) -> pd.DataFrame:
    """Return a row a size: the fall, the first entropy and success, and for sequences the context shift's share."""
    found = []
    for key, part in rows.groupby([*held, "size"], sort=False):
        line: dict[str, Any] = dict(zip([*held, "size"], key, strict=True))
        line |= {"entropy": part.before.mean(), "success": part.success.mean()} | mean_error("fall", part.fall)
        line |= {"low": line["fall"] - 2 * line["fall_error"], "high": line["fall"] + 2 * line["fall_error"]}
        if held == ["policy"]:
            line |= ratio_error("shift_share", part["shift"], part.after - part.before)
            line |= {
                f"shift_{end}": line["shift_share"] + sign * 2 * line["shift_share_error"]
                for end, sign in (("low", -1), ("high", 1))
            }
        found.append(line)
    return pd.DataFrame(found)


def fits(rows: pd.DataFrame, held: list[str]) -> pd.DataFrame:
    """Return the exponent of the mean fall in the size, its jackknife error over repeats, and the R^2 of the fit.

    Only sizes whose fall is above 0 by two standard errors are fitted; `rising` counts
    those where it is below 0 by as much. `exponent_small` and `exponent_large` are those of the smaller and larger half
    of the fitted sizes: under a power law they are equal.
    """
    found = []
    for key, part in rows.groupby(held, sort=False):
        falls = part.pivot(index="repeat", columns="size", values="fall")
        mean, error = falls.mean(), falls.sem().fillna(0.0)
        resolved = falls.loc[:, mean > 2 * error]
        line: dict[str, Any] = dict(zip(held, key if isinstance(key, tuple) else (key,), strict=True))
        line |= {"sizes": len(mean), "fitted": resolved.shape[1], "rising": int((mean < -2 * error).sum())}
        line |= {"largest_fitted": max(resolved.columns, default=0), "fit": exponent(resolved)[1]}
        half = (resolved.shape[1] + 1) // 2
        halves = {"_small": resolved.iloc[:, :half], "_large": resolved.iloc[:, -half:]}
        for name, columns in {"": resolved, **halves}.items():
            line |= jackknife(f"exponent{name}", columns)
        found.append(line | {"fall_smallest": mean.iloc[0], "fall_largest": mean.iloc[-1]})
    return pd.DataFrame(found)


def exponent(falls: pd.DataFrame) -> tuple[float, float]:
    """Return exponent and R^2 of the mean fall in the size, NaN with fewer than 2 sizes."""
    return power(pd.Series(falls.columns.astype(float)), falls.mean())


def jackknife(name: str, falls: pd.DataFrame) -> dict[str, float]:
    """Return the exponent of the mean fall and its standard error, from leaving out one repeat after the other."""
    value, repeats = exponent(falls)[0], len(falls)
    if repeats < 2:
        return {name: value, f"{name}_error": 0.0}
    left = pd.Series([exponent(falls.drop(index=repeat))[0] for repeat in falls.index])
    return {name: value, f"{name}_error": float(((left - left.mean()) ** 2).sum() * (repeats - 1) / repeats) ** 0.5}


def findings(found: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the exponents, whether they are power laws, and how much of the curve is context shift."""
    vocabulary, length = found["vocabulary_fits"], found["length_fits"]
    lines = [verdict(pd.concat([vocabulary, length], ignore_index=True))]
    for row in records(vocabulary):
        held = f"equal {row['count']} of right arms and {row['start']} at the start, {row['gradient']} gradient"
        lines.append(f"Vocabulary, {held}: {fit_text(row)}.")
    for row in records(length):
        lines.append(
            f"Length, {row['policy']}: {fit_text(row)}; where a loss is a mean over tokens, at a fixed learning rate, "
            "the exponent is lower by 1."
        )
    lines.append(noise(found["vocabulary"]))
    for name, part in found["length"].groupby("policy", sort=False):
        shares = "; ".join(
            f"T={row['size']} {text(row['shift_share'], row['shift_share_error'], 2, True)}" for row in records(part)
        )
        lines.append(f"Share of context shift in the change of the training curve, {name}: {shares}.")
    return lines


def is_law(row: Mapping[str, Any]) -> bool:
    """Return whether the fall shrinks as a power: at all sizes, by two standard errors, and with a good fit."""
    return bool(
        row["fitted"] == row["sizes"] and row["exponent"] < -2 * row["exponent_error"] and row["fit"] >= GOOD_FIT
    )


def verdict(rows: pd.DataFrame) -> str:
    """Return whether the claim holds: in all fits, in some, or in none."""
    right = [is_law(row) for row in records(rows)]
    word = "holds" if all(right) else "holds in part" if any(right) else "does not hold"
    return (
        f"The claim {word}: the fall per unit of time shrinks as a power (entropy falls at every size, exponent below "
        f"0 by two standard errors, R^2 at least {GOOD_FIT}) in {sum(right)} of {len(right)} ways of growing."
    )


def fit_text(row: Mapping[str, Any]) -> str:
    """Return an exponent with what it rests on."""
    sizes = f"{row['fitted']} of {row['sizes']} sizes falling, {row['rising']} rising by two standard errors"
    if np.isnan(row["exponent"]):
        return f"no exponent ({sizes})"
    halves = " and ".join(
        text(row[f"exponent_{half}"], row[f"exponent_{half}_error"], 2, True) for half in ("small", "large")
    )
    return (
        f"exponent {text(row['exponent'], row['exponent_error'], 2, True)}, R^2 {text(row['fit'], digits=2)} ({sizes}; "
        f"{halves} over the smaller and larger half), {row['fall_smallest']:.2g} nats at the smallest size, "
        f"{row['fall_largest']:.2g} at the largest"
    )


def noise(rows: pd.DataFrame) -> str:
    """Return how much of the fall is left without sampling, at the largest vocabulary."""
    largest = rows[rows["size"] == rows["size"].max()]
    parts = []
    for key, part in largest.groupby(["count", "start"], sort=False):
        fall = part.set_index("gradient").fall
        parts.append(f"{', '.join(map(str, key))} {fall['exact']:.2g} of {fall['sampled']:.2g}")
    return (
        f"With {rows['size'].max()} arms the expected gradient makes this much of the sampled fall, the rest being of "
        f"noise: {'; '.join(parts)} nats."
    )


EXPERIMENT = Experiment(
    name="scaling",
    claim="GRPO's entropy falls more slowly, as a power, the larger the vocabulary and the longer the response.",
    options=Options,
    cells=cells,
    tables=tables,
    findings=findings,
    panels=(
        Panel(
            "Fall by vocabulary",
            "vocabulary",
            "size",
            "fall",
            kind="points",
            by="line",
            low="low",
            high="high",
            x_label="arms",
            y_label="fall (nats per unit of time)",
            x_log=True,
            y_log=True,
        ),
        Panel(
            "Fall by length",
            "length",
            "size",
            "fall",
            kind="points",
            by="policy",
            low="low",
            high="high",
            x_label="tokens of a response",
            y_label="fall (nats per unit of time)",
            x_log=True,
            y_log=True,
        ),
        Panel(
            "Context shift",
            "length",
            "size",
            "shift_share",
            kind="points",
            by="policy",
            low="shift_low",
            high="shift_high",
            x_label="tokens of a response",
            y_label="share of the training curve's change",
            zero=True,
        ),
    ),
)
