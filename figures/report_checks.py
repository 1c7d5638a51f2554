"""What in a run's numbers is worth a user's eye: one small function a check, each with its threshold."""

from collections.abc import Callable, Mapping
from typing import Any

from figures.report_load import ReportedRun
from figures.report_numbers import evaluations_of, place_of, predicted, r_squared

RECENT = 10  # steps that "lately" means
COLLAPSED = 0.1  # of the entropy at the start
MIXED = 0.25  # share of prompts with rewards of more than one kind
REJECTED = 0.1  # share of rollouts accepted
FINISHED = 0.9  # share of completions that ended by themselves
GAP = 0.05  # nats: importance ratios are off by 5 %
CLIPPED = 0.2  # share of computed tokens
PREDICTED = 0.5  # R^2
SKIPPED = 0.05  # share of steps
ON_ONE_SIDE = 20  # steps looked at for the band
MOSTLY = 0.75  # share of them outside, on one side


def lately(run: ReportedRun, column: str) -> float:
    """Return the mean of the last steps that have a value, NaN where none has."""
    return float(run.of(column).dropna()[-RECENT:].mean())


def off_the_band(run: ReportedRun) -> str | None:
    """Say that entropy is on one side of the band; single steps are noisy, so a few of them may be elsewhere."""
    sides = run.of("band_indicator").dropna()[-ON_ONE_SIDE:]
    for side, where in ((1, "above"), (-1, "below")):
        count = int((sides == side).sum())
        if len(sides) >= RECENT and count >= MOSTLY * len(sides):
            return f"entropy was {where} the band in {count} of the last {len(sides)} steps"
    return None


def collapsed(run: ReportedRun) -> str | None:
    """Say that next to nothing is left of the entropy."""
    start, end = run.of("entropy").dropna().iloc[0], lately(run, "entropy")
    return f"entropy is at {end:.3f} nats/token, {end / start:.0%} of the start" if end < COLLAPSED * start else None


def equal_groups(run: ReportedRun) -> str | None:
    """Say that most groups have one reward, which leaves group-wise advantages nothing to learn from."""
    mixed = lately(run, "mixed_groups")
    if not mixed < MIXED:
        return None
    reward = lately(run, "reward_mean")
    return (
        f"{1 - mixed:.0%} of groups had all-equal rewards lately (mean reward {reward:.3f}): they carry no signal for "
        "group-wise advantages; prompts are too hard or too easy, or groups too small"
    )


def rejecting(run: ReportedRun) -> str | None:
    """Say that the filter leaves next to nothing."""
    accepted = lately(run, "accepted_fraction")
    return f"the filter accepted {accepted:.1%} of rollouts lately" if accepted < REJECTED else None


def truncated(run: ReportedRun) -> str | None:
    """Say that many completions were cut."""
    finished = lately(run, "finished_fraction")
    if not finished < FINISHED:
        return None
    return (
        f"{1 - finished:.0%} of completions did not end with a stop token lately: they were cut at "
        "rollout.max_new_tokens"
    )


def sampler_differs(run: ReportedRun) -> str | None:
    """Say that sampler and trainer disagree about the same tokens at the same weights."""
    largest = run.of("log_prob_gap").max()
    if not largest > GAP:
        return None
    return (
        f"sampler and trainer log-probabilities of a token differ by up to {largest:.3f} nats at equal weights: "
        "importance ratios are off by as much; look at model.dtype and rollout.engine"
    )


def clipping(run: ReportedRun) -> str | None:
    """Say that the clip rule removes much of the gradient."""
    clipped = lately(run, "clip_low_fraction") + lately(run, "clip_high_fraction")
    return f"the clip rule removed the gradient of {clipped:.0%} of tokens lately" if clipped > CLIPPED else None


def skipped(run: ReportedRun) -> str | None:
    """Say that steps updated nothing."""
    steps = run.of("skipped")
    if not steps.mean() > SKIPPED:
        return None
    return f"{int(steps.sum())} of {len(steps)} steps updated nothing: no rollout carried gradient"


def not_finite(run: ReportedRun) -> str | None:
    """Say that numbers were not finite, which the metrics hold as null."""
    parts = []
    if "loss" in run.metrics and "skipped" in run.metrics:
        lost = int((run.of("loss").isna() & run.of("skipped").eq(0)).sum())
        parts += [f"the loss of {lost} steps was not finite"] if lost else []
    parts += [f"{run.bad_steps} batches were set aside in bad_steps/"] if run.bad_steps else []
    return " and ".join(parts) or None


def unpredicted(run: ReportedRun) -> str | None:
    """Say that the first order does not explain the measured changes."""
    rows = predicted(run, ("dH_first_order",))
    r2 = r_squared(rows)
    if r2 is None or len(rows) < RECENT or r2 >= PREDICTED:
        return None
    return (
        f"the first order predicts the entropy change with R² {r2:.2f} only: steps are long for it; see the second "
        "order (theory.second_order), or a smaller learning rate"
    )


def worse_held_out(run: ReportedRun) -> str | None:
    """Say which held-out estimates fell from the first to the last evaluation, their intervals apart."""
    fell = []
    for place in dict.fromkeys(place_of(row) for row in run.evaluations):
        rows = list(evaluations_of(run, place).values())
        for name, last in rows[-1].get("estimates", {}).items():
            first: Mapping[str, Any] | None = rows[0].get("estimates", {}).get(name)
            if first and last["high"] < first["low"]:
                where = " ".join(part for part in place if part)
                fell.append(f"{name} ({where}) from {first['value']:.3f} to {last['value']:.3f}")
    return f"held-out estimates fell, intervals apart: {'; '.join(fell)}" if fell else None


CHECKS: Mapping[str, Callable[[ReportedRun], str | None]] = {
    f"entropy on one side of the band in {MOSTLY:.0%} of the last {ON_ONE_SIDE} steps": off_the_band,
    f"entropy under {COLLAPSED:.0%} of the start": collapsed,
    f"fewer than {MIXED:.0%} of groups with unequal rewards": equal_groups,
    f"fewer than {REJECTED:.0%} of rollouts accepted": rejecting,
    f"fewer than {FINISHED:.0%} of completions finished": truncated,
    f"sampler and trainer more than {GAP:g} nats apart": sampler_differs,
    f"more than {CLIPPED:.0%} of tokens clipped": clipping,
    f"more than {SKIPPED:.0%} of steps without an update": skipped,
    "numbers that are not finite": not_finite,
    f"R² of the first order below {PREDICTED:g}": unpredicted,
    "held-out estimates that fell, intervals apart": worse_held_out,
}


def findings(run: ReportedRun) -> list[str]:
    """Return what the checks say of a run, in their order."""
    return [text for check in CHECKS.values() if (text := check(run)) is not None]
