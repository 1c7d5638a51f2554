"""The condition of Theorems 1 and 2 on real tokens, with the change of probabilities that an update really made.

The logits of the probe's tokens are kept from before the update and compared with those after it, row by row. Like the
probe, this touches neither gradients nor optimiser nor random numbers.
"""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from entropy_theory.measured import MeasuredTheorem1, MeasuredTheorem2, measured_theorem1, measured_theorem2
from trainer.config import TrainConfig
from trainer.network import Block
from trainer.probe import Probe

# Numbers kept from before the update, 1 GiB in float32.
LARGEST = 2**28
NAMES = tuple(item.name for item in fields(MeasuredTheorem1))


def check_size(config: TrainConfig, new_tokens: int, vocabulary: int) -> None:
    """Refuse a run whose probe's logits would be too many to keep.

    Args:
        config: the run's.
        new_tokens: most tokens of a completion.
        vocabulary: logits a token.

    Raises:
        ValueError: more than 2^28 numbers.
    """
    theory = config.theory
    rows = min(theory.probe_rows, config.rollout.prompts * config.rollout.group_size)
    if not (theory.enabled and theory.condition) or rows * new_tokens * vocabulary <= LARGEST:
        return
    most = LARGEST // (new_tokens * vocabulary)
    remedy = f"Lower theory.probe_rows to {most}" if most else "Lower rollout.max_new_tokens"
    raise ValueError(
        f"theory.condition keeps theory.probe_rows={rows} x {new_tokens} tokens x {vocabulary} logits, which must be "
        f"at most {LARGEST:,}; got {rows * new_tokens * vocabulary:,}. {remedy}, or leave theory.condition false."
    )


class ConditionProbe:
    """Remembers the logits of a probe's tokens before an update, and compares after it.

    Args:
        probe: the probe, before the update.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.before = [self.logits_of(rows) for rows in probe.parts]

    @torch.no_grad()
    def logits_of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits `[m, V]` at each token of these rows, the tokens `[m]` and their mask `[n, T]`."""
        # A process without rows takes part in the pass all the same.
        chosen = rows if len(rows) else torch.zeros(1, dtype=torch.long, device=rows.device)
        part = self.probe.rollouts.rows(chosen)
        block = Block(part.tokens, part.attention, part.mask, self.probe.temperature)
        mask = part.mask[: len(rows)]
        logits = self.probe.network(block, logits=True).logits[: len(rows)]
        return logits[mask], part.completion_ids[: len(rows)][mask], mask

    def after(self) -> MeasuredTheorem1:
        """Return what the update did at each token, `[n, T]`; 0 outside the mask."""
        parts = [
            self.compared(rows, before, token, mask)
            for rows, (before, token, mask) in zip(self.probe.parts, self.before, strict=True)
        ]
        found = dict(zip(NAMES, self.probe.all_rows(parts).unbind(-1), strict=True))
        return MeasuredTheorem1(**found | {name: found[name].bool() for name in ("moved", "condition")})

    def compared(self, rows: Tensor, before: Tensor, token: Tensor, mask: Tensor) -> Tensor:
        """Return the objects of these rows as numbers, `[n, T of the whole probe, objects]`."""
        after, _, _ = self.logits_of(rows)
        found = measured_theorem1(before, after, token)
        values = before.new_zeros(len(rows), self.probe.rollouts.mask.shape[1], len(NAMES), dtype=torch.float64)
        values[:, : mask.shape[1]][mask] = torch.stack([getattr(found, name).double() for name in NAMES], dim=-1)
        return values


def condition_columns(found: MeasuredTheorem1, advantages: Tensor, mask: Tensor) -> dict[str, Any]:
    """Return the columns on the condition (`trainer.columns`): over tokens with an advantage, and their rollouts.

    The rule is A Delta H <= 0. What the theorem concludes it from, beside its condition, is that the token's
    probability moved as its advantage says, A delta p_k > 0; with shared parameters an update need not do that, and
    `delta_p_agreement` and `effective_delta_p_negative` say how often it does not.

    Args:
        found: measured at each token, `[n, T]`.
        advantages: `[n, T]`, as used by the update.
        mask: `[n, T]`, True on completion tokens.

    Source: arXiv 2604.26326, Theorems 1 and 2.
    """
    counted = mask & (advantages != 0)
    moved = counted & found.moved
    rule = advantages * found.change <= 0
    whole = measured_theorem2(found, counted)
    return {
        "condition_tokens": mean(found.condition, moved),
        "condition_undefined": mean(~found.moved, counted),
        "condition_log_likelihood": mean(found.log_prob, moved),
        "condition_baseline": mean(found.baseline, moved),
        "condition_gap_median": median(found.log_prob - found.baseline, moved),
        "delta_p_agreement": mean(advantages * found.delta_p > 0, moved),
        "sign_rule_given_condition": mean(rule, moved & found.condition),
        "sign_rule_without_condition": mean(rule, moved & ~found.condition),
        **sequence_columns(whole, found, advantages, counted),
    }


def sequence_columns(
    whole: MeasuredTheorem2, found: MeasuredTheorem1, advantages: Tensor, counted: Tensor
) -> dict[str, float | None]:
    """Return the columns on whole rollouts: those with a token that has an advantage and moved."""
    rows = whole.tokens > 0
    total = (advantages * counted).sum(1)
    rule = total * found.change.where(counted, 0.0).sum(1) <= 0
    return {
        "condition_sequences": mean(whole.condition, rows),
        "effective_delta_p_negative": mean(~(total * whole.effective_delta_p > 0), rows),
        "sign_rule_sequences_given_condition": mean(rule, rows & whole.condition),
        "sign_rule_sequences_without_condition": mean(rule, rows & ~whole.condition),
    }


def mean(values: Tensor, counted: Tensor) -> float | None:
    """Return the mean of what is counted, of truths their share; None where nothing is."""
    return float(values[counted].double().mean()) if counted.any() else None


def median(values: Tensor, counted: Tensor) -> float | None:
    """Return the (lower) median of what is counted, None where nothing is."""
    return float(values[counted].double().median()) if counted.any() else None
