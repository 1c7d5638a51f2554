"""What is recorded of sampled tokens, and how it becomes the blocks of a batch of rollouts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from entropy_theory import (
    chunked_token_statistics,
    entropy_bonus_change,
    sampled_token_delta,
    second_order_change,
    validation,
)
from entropy_theory.chunked import tiles
from trainer.model import at_least_float32
from trainer.rollout import STATISTICS, Rollouts

# Logits that are gathered before they are recorded: so many make the passes over them worth their calls.
GATHERED = 2**20


@dataclass(frozen=True)
class Recording:
    """What to record of every token beside its log-probability and the entropy.

    Args:
        temperature: the sampling temperature, whose policy the records describe.
        statistics: also influence, curvature and responsiveness.
        temperatures: also log-probabilities at these temperatures.
    """

    temperature: float
    statistics: bool = False
    temperatures: tuple[float, ...] = ()


@dataclass(frozen=True)
class Record:
    """What was recorded of n tokens.

    Args:
        values: by name, `[n]`: those of STATISTICS that were recorded.
        tempered: by temperature, `[n]`, log-probabilities.
        seconds: that influence, curvature and responsiveness took.
    """

    values: Mapping[str, Float[Tensor, " n"]]
    tempered: Mapping[float, Float[Tensor, " n"]]
    seconds: float = 0.0


def record_of(logits: Float[Tensor, "n V"], token: Int[Tensor, " n"], recording: Recording) -> Record:
    """Return the record of the tokens that were drawn from these logits; NaN for rows without a distribution."""
    scaled = logits if recording.temperature == 1 else at_least_float32(logits) / recording.temperature
    found = chunked_token_statistics(scaled, token, check=False)
    at_one = found if recording.temperature == 1 else chunked_token_statistics(logits, token, check=False)
    values = {"log_prob": found.log_prob, "entropy": found.entropy, "entropy_t1": at_one.entropy}
    began = time.perf_counter()
    if recording.statistics:
        scaled = at_least_float32(scaled)
        values["influence"] = found.mean_discriminator - found.discriminator
        values["curvature"] = second_order_change(scaled, sampled_token_delta(scaled, token, 1.0))
        values["responsiveness"] = entropy_bonus_change(scaled, 1.0, 1.0)
    seconds = time.perf_counter() - began if recording.statistics else 0.0
    tempered = {
        temperature: chunked_token_statistics(at_least_float32(logits) / temperature, token, check=False).log_prob
        for temperature in recording.temperatures
    }
    return Record(values, tempered, seconds)


class Recorder:
    """Takes in tokens and their logits in the order in which they are drawn; makes blocks of what to record of them.

    The logits of small vocabularies are gathered over some steps, those of large ones taken a few rows at a time.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.rows: list[Sequence[int]] = []
        self.tokens: list[Tensor] = []
        self.records: list[Record] = []
        self.gathered: list[tuple[Tensor, Tensor]] = []

    def write(self, rows: Sequence[int], tokens: Tensor, logits: Tensor) -> None:
        """Take in the next token of each of these rows and the logits that it was drawn from."""
        self.rows.append(rows)
        self.tokens.append(tokens)
        self.gathered.append((logits, tokens))
        if sum(held.numel() for held, _ in self.gathered) >= GATHERED:
            self.record()

    def record(self) -> None:
        """Make records of what was gathered."""
        if not self.gathered:
            return
        logits, tokens = self.gathered[0]
        if len(self.gathered) > 1:
            logits, tokens = (torch.cat(parts) for parts in zip(*self.gathered, strict=True))
        self.gathered = []
        for rows in tiles(logits, logits.shape[1], panel=True):
            self.records.append(record_of(logits[rows], tokens[rows], self.recording))

    def rollouts(self, tokens: Tensor, attention: Tensor, finished: Sequence[bool], group_size: int) -> Rollouts:
        """Return everything as a batch, given its prompts, repeated for every row.

        Raises:
            ValueError: logits without a distribution, such as NaN.
        """
        self.record()
        # Asked once: each time, this process waits for the device.
        validation.rows_with_a_distribution("sample", torch.cat([record.values["entropy"] for record in self.records]))
        rows = np.concatenate(self.rows)
        # A row's tokens came in the order of their positions, so sorting by row alone puts all in reading order.
        order = torch.from_numpy(np.argsort(rows, kind="stable")).to(tokens.device)
        lengths = torch.from_numpy(np.bincount(rows, minlength=len(tokens)))
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).to(tokens.device)

        def block(parts: Sequence[Tensor]) -> Tensor:
            return parts[0].new_zeros(mask.shape).masked_scatter_(mask, torch.cat(list(parts))[order])

        first = self.records[0]
        values = {name: block([record.values[name] for record in self.records]) for name in first.values}
        absent = values["log_prob"].new_zeros(()).expand(mask.shape)
        return Rollouts(
            tokens=torch.cat([tokens, block(self.tokens)], dim=1),
            attention=torch.cat([attention, mask], dim=1),
            mask=mask,
            finished=torch.tensor(finished, device=tokens.device),
            group_size=group_size,
            statistics_s=sum(record.seconds for record in self.records),
            tempered={at: block([record.tempered[at] for record in self.records]) for at in first.tempered},
            **{name: values.get(name, absent) for name in STATISTICS},
        )
