"""A step's row of metrics, from what the stages returned."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint import RunState
from trainer.condition import condition_columns
from trainer.methods.pipeline import weighted_advantages
from trainer.methods.stages import Filtered, Groups, per_rollout
from trainer.probe import Change, TabularTerms, sign_rule_agreement
from trainer.rollout import Rollouts
from trainer.step import Update


def step_row(
    *,
    state: RunState,
    rollouts: Rollouts,
    raw_rewards: Tensor,
    groups: Groups,
    filtered: Filtered,
    update: Update,
    change: Change | None,
    tabular: TabularTerms | None,
    probe_rows: Tensor | None,
    lr: float,
    times: Mapping[str, float],
) -> dict[str, Any]:
    """Return the row of `metrics.jsonl` of a step (columns: `trainer.columns`); `state` is that before the step."""
    prompts, group_size = groups.rewards.shape
    accepted = float((filtered.weights > 0).double().mean())
    return {
        "step": state.step,
        "samples": state.samples + prompts * group_size,
        "tokens": state.tokens + int(rollouts.mask.sum()),
        "reward_mean": float(raw_rewards.double().mean()),
        "entropy": float(groups.entropy),
        "entropy_t1": rollouts.mean(rollouts.entropy_t1),
        "entropy_standard_error": rollouts.standard_error(rollouts.entropy),
        **{
            f"log_likelihood_{name}": mean_where(rollouts.log_prob, rollouts.mask, side)
            for name, side in sides(groups, rollouts).items()
        },
        "entropy_low": groups.band.low,
        "entropy_high": groups.band.high,
        "band_indicator": int(groups.band.side(groups.entropy)),
        "accepted_fraction": accepted,
        "effective_group_size": accepted * group_size,
        "mixed_groups": float((groups.rewards.amax(1) != groups.rewards.amin(1)).double().mean()),
        "response_length": float(rollouts.lengths.double().mean()),
        "finished_fraction": float(rollouts.finished.double().mean()),
        **update_columns(update),
        "lr": lr,
        **theory_columns(state, rollouts, filtered, change, tabular, probe_rows),
        **times,
    }


def sides(groups: Groups, rollouts: Rollouts) -> dict[str, Tensor]:
    """Return which rows `[B]` have a positive and which a negative advantage, before the filter."""
    advantages = groups.rollout_advantages.flatten().to(rollouts.mask.device)
    return {"positive": advantages > 0, "negative": advantages < 0}


def mean_where(values: Tensor, mask: Tensor, rows: Tensor) -> float | None:
    """Return the mean of `values` over the tokens of these rows, None where there are none."""
    chosen = mask & rows[:, None]
    return float(values.double()[chosen].mean()) if chosen.any() else None


def update_columns(update: Update) -> dict[str, Any]:
    """Return what the update did; None where it computed nothing."""
    some = update.tokens > 0
    return {
        "rows_computed": update.rows,
        "skipped": int(update.steps == 0),
        "skipped_mini_batches": update.skipped,
        "bad_mini_batches": update.bad,
        "loss": sum(update.losses) / update.steps if update.steps else None,
        "grad_norm": sum(update.grad_norms) / update.steps if update.steps else None,
        "kl": update.kl / update.tokens if some and update.kl is not None else None,
        "clip_low_fraction": update.clipped_low / update.tokens if some else None,
        "clip_high_fraction": update.clipped_high / update.tokens if some else None,
        "ratio_max": update.ratio_max,
        "log_prob_gap": update.gap,
        "log_prob_gap_mean": update.gap_sum / update.gap_tokens if update.gap_tokens else None,
    }


def theory_columns(
    state: RunState,
    rollouts: Rollouts,
    filtered: Filtered,
    change: Change | None,
    tabular: TabularTerms | None,
    probe_rows: Tensor | None,
) -> dict[str, Any]:
    """Return predicted and measured entropy change, as far as theory looked at the step."""
    used = weighted_advantages(filtered, rollouts.record.mask)
    columns: dict[str, Any] = {}
    if tabular is not None:
        scale = state.scale.value
        columns |= {
            "dH_tabular_unit": tabular.unit,
            "dH_tabular_scale": scale,
            "dH_tabular": tabular.unit * scale if scale is not None else None,
            "dH_covariance": tabular.covariance * scale if scale is not None else None,
            "dH_drift": tabular.curvature * scale**2 if scale is not None else None,
        }
    if change is not None and probe_rows is not None:
        probe = rollouts.rows(probe_rows)
        on_probe = used[probe_rows][:, : probe.mask.shape[1]]
        columns |= {
            "dH_measured": change.measured,
            "dH_first_order": change.first_order,
            "dH_second_order": change.second_order,
            "sign_rule_agreement": sign_rule_agreement(on_probe, change.per_token, probe.mask),
            "sign_rule_step": sign_rule_step(used.sum(1) / rollouts.lengths, change.measured),
        }
        if change.theorem is not None:
            columns |= condition_columns(change.theorem, on_probe, probe.mask)
    return columns


def sign_rule_step(advantages: Tensor, measured: float) -> int | None:
    """Return 1 if the batch's mean advantage and the measured change obey the sign rule, 0 if not, None if it is mute.

    The mean is over rollouts; a batch whose advantages cancel (as group-normalised ones do) has no sign.
    """
    mean, largest = float(advantages.double().mean()), float(advantages.abs().max())
    if abs(mean) <= 1e-6 * max(largest, torch.finfo(torch.float32).tiny):
        return None
    return int(mean * measured <= 0)


def rollout_rows(
    rows: Sequence[Mapping[str, Any]], texts: Sequence[str], rewards: Tensor, filtered: Filtered, count: int
) -> Iterator[dict[str, Any]]:
    """Yield rollouts of a step as they are written to `rollouts/`: about `count` of them, in whole groups.

    The groups are spread evenly over the step's prompts: `count` over the group size of them, at least one.
    """
    prompts, group_size = rewards.shape
    advantages = per_rollout(filtered.advantages, rewards)
    groups = min(prompts, max(1, count // group_size)) if count else 0
    for group in (place * prompts // groups for place in range(groups)):
        for member in range(group_size):
            yield {
                "group": group,
                "prompt": rows[group]["prompt"],
                "completion": texts[group * group_size + member],
                "reward": float(rewards[group, member]),
                "advantage": float(advantages[group, member]),
                "weight": float(filtered.weights[group, member]),
            }


def describe(row: Mapping[str, Any]) -> str:
    """Return the progress bar's text for a step."""
    return (
        f"reward {row['reward_mean']:.3f}  entropy {row['entropy']:.3f}  "
        f"band {row['entropy_low']:.3f}-{row['entropy_high']:.3f}  accepted {row['accepted_fraction']:.0%}"
    )
