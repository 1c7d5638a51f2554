"""What a study decides: differences that its protocol asks for, with the rules that it fixed beforehand.

Values are per seed, evaluation and prompt, and paired between the two arms of a question. Intervals resample seeds and
prompts for both alike. With few seeds that differ much such an interval is too narrow: a verdict also asks the t
interval over the seeds' means.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats  # type: ignore[import-untyped]
from numpy.lib.stride_tricks import sliding_window_view

from trainer.estimators import RESAMPLES, bootstrap_pairs, pass_at_k
from trainer.streams import numpy_stream
from trainer.study.comparison import best_of
from trainer.study.protocol import Question, Rules
from trainer.study.records import Record, Study

# Half widths of a 95 % interval that a difference must exceed its margin by, to be seen in 80 of 100 studies.
DETECTABLE = 1 + 0.841621 / 1.959964


@dataclass(frozen=True)
class History:
    """pass@k of a run over its evaluations.

    Args:
        steps: `[E]`.
        values: `[E, N]`, one a prompt.
        samples: `[E]`, completions a prompt.
    """

    steps: np.ndarray
    values: np.ndarray
    samples: np.ndarray

    def at(self, steps: Sequence[int]) -> "History":
        """Return what it is at these steps alone."""
        kept = np.isin(self.steps, steps)
        return History(self.steps[kept], self.values[kept], self.samples[kept])


def decide(study: Study) -> Iterator[dict[str, Any]]:
    """Yield the rows of `decision.csv`: nothing of a question whose runs are not there yet."""
    protocol = study.protocol
    groups: dict[tuple[str, str], dict[int, Record]] = {}
    for record in study.records:
        groups.setdefault((record.part, record.arm), {})[record.seed] = record
    for question in protocol.questions:
        sides = (question.of, question.against)
        found = [groups.get(side, {}) for side in sides]
        seeds = sorted(found[0].keys() & found[1].keys())
        pair = [[side[seed] for seed in seeds] for side in found]
        planned = set.intersection(*(set(protocol.seeds_of(*side)) for side in sides))
        whole = planned <= set(seeds) and all(evaluated(side) for side in pair)
        for setting in sorted({row["key"] for record in (pair[0] if seeds else ()) for row in record.evaluations}):
            for row in answered(protocol.rules, protocol.pass_at, setting, pair, whole=whole):
                yield {**named(question), "setting": setting, "seeds": len(seeds), **row}


def evaluated(side: Sequence[Record]) -> bool:
    """Return whether an arm's runs were all evaluated at the same steps, and at the end as the protocol asks."""
    looked_at = {frozenset((row["step"], row["key"]) for row in record.evaluations) for record in side}
    return len(looked_at) <= 1 and not any(record.unevaluated for record in side)


def named(question: Question) -> dict[str, Any]:
    """Return what names a question in the table."""
    (part, arm), (other_part, other) = question.of, question.against
    return {"question": question.name, "part": part, "arm": arm, "against_part": other_part, "against": other}


def answered(
    rules: Rules, pass_at: Sequence[int], setting: str, pair: Sequence[Sequence[Record]], *, whole: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield the answers for one sampling setting: pair holds the two arms' runs, seed by seed.

    Without `whole`, runs or evaluations of the protocol are missing, and nothing is decided.
    """
    on_the_way = len(aligned([history(record, setting, 1) for record in pair[1]])[0].steps)
    for k in pass_at:
        own, other = (aligned([history(record, setting, k) for record in side]) for side in pair)
        length = min(len(own[0].steps), len(other[0].steps))
        if not length:
            continue
        # The evaluations on either side that each comparison looks at, from the last one back; 0 is all.
        spans = {}
        if length >= rules.window:
            spans["last"] = rules.window, rules.window
            # The best ones are of the whole run: where those on the way have fewer samples, there are none.
            if len(other[0].steps) == on_the_way:
                spans["best"] = rules.window, 0
        spans["end"] = 1, 1
        for name, (back, against) in spans.items():
            mine = [last(found, back) for found in own]
            theirs = [last(found, against) if against else best(found, rules.window) for found in other]
            decides = k == 1 and name == "best" and setting == rules.setting
            yield {
                "quantity": f"pass@{k}",
                "comparison": name,
                **difference(mine, theirs, rules.margin if decides else None, whole=whole),
                "samples": min(int(found.samples[-back:].min()) for found in own),
                "samples_against": min(int(found.samples[-against:].min()) for found in other),
            }
        if k == 1 and length >= rules.window:
            yield from plateaus(rules, own, other)


def aligned(side: Sequence[History]) -> list[History]:
    """Return an arm's histories at those steps that all of them have."""
    steps = sorted(set.intersection(*(set(found.steps.tolist()) for found in side)))
    return [found.at(steps) for found in side]


def history(record: Record, setting: str, k: int) -> History:
    """Return pass@k of a run where at least k samples were drawn, of each step by the evaluation of most samples."""
    every = (*record.evaluations, *record.final)
    rows = [row for row in best_of([row for row in every if row["key"] == setting]) if row["samples"] >= k]
    values = [[pass_at_k(row["samples"], right, k) for right in row["correct"]] for row in rows]
    steps, samples = (np.array([row[name] for row in rows], dtype=int) for name in ("step", "samples"))
    return History(steps, np.array(values), samples)


def last(found: History, window: int) -> np.ndarray:
    """Return the mean of the last evaluations, `[N]`."""
    return np.asarray(found.values[-window:].mean(0))


def best(found: History, window: int) -> np.ndarray:
    """Return the mean of the best evaluations in a row, `[N]`: chosen on every second prompt, measured on the others.

    Choosing and measuring on the same prompts would take the luck of the choice for performance.

    >>> values = np.array([[0.0, 0.0], [1.0, 0.2], [0.5, 0.9]])
    >>> best(History(np.arange(3), values, np.ones(3)), 1)
    array([0.5, 0.2])
    """
    windows = np.stack([found.values[start : start + window].mean(0) for start in range(len(found.steps) - window + 1)])
    half = np.arange(windows.shape[1]) % 2 == 0
    means = np.empty(windows.shape[1])
    for measured in (half, ~half):
        means[measured] = windows[windows[:, ~measured].mean(1).argmax(), measured]
    return means


def difference(
    own: Sequence[np.ndarray], other: Sequence[np.ndarray], margin: float | None, *, whole: bool = True
) -> dict[str, Any]:
    """Return the mean difference with its intervals, and what they say of the margin; None decides nothing."""
    table = np.stack(own) - np.stack(other)
    found = bootstrap_pairs(table, generator=numpy_stream(0, "bootstrap", "decision"))
    means, seeds = table.mean(1), len(table)
    half = scipy.stats.t.ppf(0.975, seeds - 1) * means.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.inf
    low, high = min(found.low, found.value - half), max(found.high, found.value + half)
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "seeds_low": found.value - half if seeds > 1 else None,
        "seeds_high": found.value + half if seeds > 1 else None,
        **(
            {}
            if margin is None
            else {"margin": margin, "verdict": verdict(low, high, margin) if whole else "incomplete"}
        ),
        "detectable": (margin or 0.0) + DETECTABLE * (high - low) / 2 if seeds > 1 else None,
        "prompts": table.shape[1],
    }


def verdict(low: float, high: float, margin: float) -> str:
    """Return where an interval lies.

    >>> verdict(0.02, 0.05, 0.01), verdict(-0.05, 0.0, 0.01), verdict(0.0, 0.05, 0.01)
    ('above', 'below', 'open')
    """
    return "above" if low > margin else "below" if high < margin else "open"


def plateaus(rules: Rules, own: Sequence[History], other: Sequence[History]) -> Iterator[dict[str, Any]]:
    """Yield where both arms' mean curves end to rise, and the factor between the two."""
    curves = [np.stack([found.values for found in side]) for side in (own, other)]
    seeds, _, prompts = curves[0].shape
    generator = numpy_stream(0, "bootstrap", "plateau")
    # The first draw is the study itself.
    of_seeds = np.vstack([np.ones(seeds), generator.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)])
    of_prompts = np.vstack([np.ones(prompts), generator.multinomial(prompts, np.full(prompts, 1 / prompts), RESAMPLES)])
    found = []
    for side, values in zip((own, other), curves, strict=True):
        means = np.einsum("rs,ser->re", of_seeds, values @ of_prompts.T) / (seeds * prompts)
        found.append(np.array([plateau(side[0].steps, curve, rules) for curve in means]))
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = found[0] / found[1]
    reached = bool(np.isfinite([found[0][0], found[1][0]]).all())
    for name, steps in zip(("arm", "against", "factor"), (*found, factor), strict=True):
        # Where neither curve is flat by the end, the factor can be anything.
        low, high = (
            np.quantile(np.where(np.isnan(steps[1:]), unknown, steps[1:]), share, method="inverted_cdf")
            for unknown, share in ((0.0, 0.025), (math.inf, 0.975))
        )
        value = steps[0] if name != "factor" or reached else math.nan
        numbers = {"value": value, "low": low, "high": high}
        yield {
            "quantity": "plateau",
            "comparison": name,
            **{key: float(value) if np.isfinite(value) else None for key, value in numbers.items()},
            "prompts": prompts,
        }


def plateau(steps: np.ndarray, curve: np.ndarray, rules: Rules) -> float:
    """Return the first step from which the curve does not rise for a while; infinity where it rises to the end.

    The curve is a moving mean of as many evaluations as the rules compare. A step counts if no later one up to
    `plateau_steps` further is higher by `plateau_rise` or more, and if the curve is that long.

    >>> rules = Rules(window=1, margin=0.01, plateau_rise=0.01, plateau_steps=2)
    >>> plateau(np.arange(6), np.array([0.0, 0.1, 0.2, 0.201, 0.202, 0.203]), rules)
    2.0
    >>> plateau(np.arange(4), np.array([0.0, 0.1, 0.2, 0.3]), rules)
    inf
    """
    smooth, centres = (sliding_window_view(values, rules.window).mean(1) for values in (curve, steps))
    for centre, level in zip(centres, smooth, strict=True):
        ahead = smooth[(centres > centre) & (centres <= centre + rules.plateau_steps)]
        if centre + rules.plateau_steps > centres[-1]:
            break
        if ahead.max() - level < rules.plateau_rise:
            return float(centre)
    return math.inf
