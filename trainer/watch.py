"""What is looked at beside the training: the probe of each step, for theory and for methods that learn from it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainer.condition import ConditionProbe
from trainer.config import TrainConfig
from trainer.direction import find_direction
from trainer.methods.pipeline import Algorithm
from trainer.methods.stages import Filtered, Groups, Response, per_token
from trainer.optimizer import momentum_decay
from trainer.probe import Change, Probe, TabularTerms, tabular_terms
from trainer.rollout import Rollouts
from trainer.step import Update
from trainer.streams import numpy_stream, row_uniforms
from trainer.workers import Workers


@dataclass(frozen=True)
class Watched:
    """A step's probe, before its update.

    Args:
        rows: which rows of the batch it has.
        probe: the probe.
        theory: whether theory asked for it.
        condition: the logits of its tokens; None where the theorems' condition is not asked for.
    """

    rows: Tensor
    probe: Probe
    theory: bool
    condition: ConditionProbe | None = None


@dataclass(frozen=True)
class Watch:
    """Looks at steps for theory, where it is enabled, and for the methods that need to know.

    Args:
        config: the run's.
        algorithm: its methods.
        network: the policy's network, as the processes share it.
        optimizer: of its parameters.
        workers: the processes.
    """

    config: TrainConfig
    algorithm: Algorithm
    network: nn.Module
    optimizer: torch.optim.Optimizer
    workers: Workers

    @property
    def updates(self) -> int:
        """Optimiser steps a batch."""
        return self.config.algorithm.mini_batches * self.config.algorithm.epochs

    @property
    def response(self) -> Response:
        """How fast the optimiser answers a batch."""
        return Response.of_momentum(momentum_decay(self.optimizer), self.updates)

    def before(self, step: int, rollouts: Rollouts) -> Watched | None:
        """Return a step's probe; None where nobody asks for it."""
        theory = self.config.theory
        asked = theory.enabled and step % theory.every == 0
        directed = "direction" in self.algorithm.needs
        if not asked and not directed and "measured_change" not in self.algorithm.needs:
            return None
        count, sizes = len(rollouts.mask), self.config.optimizer
        generator = numpy_stream(self.config.seed, "probe", step)
        size = theory.probe_rows if asked else theory.control_rows
        chosen = generator.choice(count, min(size, count), replace=False)
        rows = torch.from_numpy(chosen).sort().values.to(rollouts.mask.device)
        probe = Probe(
            self.network,
            rollouts.rows(rows),
            self.config.rollout.temperature,
            sizes.micro_batch_rows,
            sizes.micro_batch_tokens,
            self.workers,
            gradient=asked or directed,
        )
        condition = ConditionProbe(probe) if asked and theory.condition else None
        return Watched(rows, probe, asked, condition)

    def seen(self, groups: Groups, rollouts: Rollouts, watched: Watched | None) -> Groups:
        """Return the batch with what the filter asked for: how it would move entropy, and draws."""
        more = replace(groups, response=self.response)
        if "uniforms" in self.algorithm.needs:
            draws = row_uniforms(self.config.seed, "filter", groups.step, groups.rewards.numel(), 1)
            more = replace(more, uniforms=draws.reshape(groups.rewards.shape))
        if "direction" in self.algorithm.needs and watched:
            sizes = self.config.optimizer
            advantages = per_token(groups.advantages.to(rollouts.mask.device), rollouts.record.mask).flatten(0, 1)
            direction = find_direction(
                watched.probe,
                self.optimizer,
                rollouts,
                advantages,
                self.updates,
                (sizes.micro_batch_rows, sizes.micro_batch_tokens),
            )
            more = replace(more, direction=direction)
        return more

    def after(
        self, rollouts: Rollouts, filtered: Filtered, update: Update, watched: Watched | None
    ) -> tuple[Change | None, TabularTerms | None]:
        """Return what the update did to the probe's entropy, and what the tabular formulas say of it."""
        theory = self.config.theory
        second_order = watched is not None and watched.theory and theory.second_order
        change = watched.probe.after(second_order) if watched else None
        if change and watched and watched.condition:
            change = replace(change, theorem=watched.condition.after())
        known = theory.enabled and theory.tabular
        return change, tabular_terms(rollouts, filtered, update) if known else None
