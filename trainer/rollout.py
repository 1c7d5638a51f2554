"""Rollouts: the completions of one step and everything recorded while they were sampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.methods.stages import TokenRecord

STATISTICS = ("log_prob", "entropy", "entropy_t1", "influence", "curvature", "responsiveness")
NOT_ROWS = ("group_size", "statistics_s", "tempered")


@dataclass(frozen=True)
class Rollouts:
    """A batch of completions in one block: prompts padded on the left, completions on the right.

    Row b belongs to group b // G. Recorded statistics are those of the sampling policy's softmax(logits / temperature)
    before top-p and top-k truncation, 0 outside the mask, in nats.

    Args:
        tokens: `[B, L]`; the last T columns are the completion.
        attention: `[B, L]`, True on real tokens.
        mask: `[B, T]`, True on completion tokens, the end token included.
        log_prob: log-probability of each sampled token.
        entropy: entropy at each sampled token.
        entropy_t1: the same at temperature 1.
        influence: N - S_k, the entropy change of the token's own context per unit of step on it, first order.
        curvature: its second-order term per unit of step squared.
        responsiveness: |grad_z H|^2 = sum_i S_i^2.
        finished: `[B]`, True where the completion ended with a stop token or a stop text.
        group_size: G.
        statistics_s: seconds that recording influence, curvature and responsiveness took; 0 where they were not.
        tempered: by temperature, the token's log-probability under softmax(logits / temperature).
    """

    tokens: Int[Tensor, "B L"]
    attention: Bool[Tensor, "B L"]
    mask: Bool[Tensor, "B T"]
    log_prob: Float[Tensor, "B T"]
    entropy: Float[Tensor, "B T"]
    entropy_t1: Float[Tensor, "B T"]
    influence: Float[Tensor, "B T"]
    curvature: Float[Tensor, "B T"]
    responsiveness: Float[Tensor, "B T"]
    finished: Bool[Tensor, " B"]
    group_size: int
    statistics_s: float = 0.0
    tempered: Mapping[float, Float[Tensor, "B T"]] = field(default_factory=dict)

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Completion tokens of each row, the end token included."""
        return self.mask.sum(1)

    @property
    def completion_ids(self) -> Int[Tensor, "B T"]:
        """The completion block of the tokens, padding included."""
        return self.tokens[:, -self.mask.shape[1] :]

    def completions(self) -> list[list[int]]:
        """Return each row's completion ids, the end token included."""
        return [ids[:length] for ids, length in zip(self.completion_ids.tolist(), self.lengths.tolist(), strict=True)]

    def mean(self, values: Float[Tensor, "B T"]) -> float:
        """Return the mean of `values` over all completion tokens of the batch."""
        return float(values.double()[self.mask].mean())

    def standard_error(self, values: Float[Tensor, "B T"]) -> float | None:
        """Return the standard error of that mean over draws of other prompts and completions; None for one prompt.

        A ratio of sums over prompts, whose rollouts are not independent: with e_p the prompt's sum of values, n_p its
        tokens and h the mean, sqrt(P / (P - 1) sum_p (e_p - h n_p)^2) / sum_p n_p.

        Source: Cochran, Sampling Techniques, 3rd ed., Section 6.3 (linearised ratio estimator).
        """
        groups = self.mask.unflatten(0, (-1, self.group_size))
        count = len(groups)
        if count < 2:
            return None
        sums = values.double().where(self.mask, 0.0).unflatten(0, (-1, self.group_size)).sum((1, 2))
        tokens = groups.sum((1, 2)).double()
        residuals = sums - sums.sum() / tokens.sum() * tokens
        return float((count / (count - 1) * residuals.square().sum()).sqrt() / tokens.sum())

    def rows(self, index: Int[Tensor, " n"]) -> "Rollouts":
        """Return the rows of this index, with padding columns that none of them needs cut off."""
        picked = {item.name: getattr(self, item.name)[index] for item in fields(self) if item.name not in NOT_ROWS}
        longest = int(picked["mask"].sum(1).max())
        spare = picked["mask"].shape[1] - longest
        first = int(picked["attention"].int().argmax(1).min())
        end = picked["tokens"].shape[1] - spare
        for name in ("tokens", "attention"):
            picked[name] = picked[name][:, first:end]
        for name in ("mask", *STATISTICS):
            picked[name] = picked[name][:, :longest]
        tempered = {temperature: values[index][:, :longest] for temperature, values in self.tempered.items()}
        return replace(self, **picked, tempered=tempered)

    @property
    def record(self) -> TokenRecord:
        """What methods see of the tokens, by prompt and sample, `[P, G, T]`."""

        def grouped(values: Tensor) -> Tensor:
            return values.unflatten(0, (-1, self.group_size))

        return TokenRecord(
            mask=grouped(self.mask),
            log_prob=grouped(self.log_prob),
            entropy=grouped(self.entropy),
            influence=grouped(self.influence),
            responsiveness=grouped(self.responsiveness),
            tempered={temperature: grouped(values) for temperature, values in self.tempered.items()},
        )


def pad_left(ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return `(tokens [P, L], attention [P, L])`; the filler is token 0 and is told apart by position alone."""
    longest = max(map(len, ids))
    tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in ids], device=device)
    attention = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in ids], device=device)
    return tokens, attention
