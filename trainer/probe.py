"""Theory in the loop: predicted against measured entropy change on fixed contexts, step by step.

The probe is a subset of the step's own rollouts: the same contexts before and after the update. Nothing here touches
the gradients, the optimiser or a random stream of the training, so training is the same with and without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from entropy_theory.measured import MeasuredTheorem1
from entropy_theory.network import first_order_along, second_order_along
from trainer.methods.pipeline import weighted_advantages
from trainer.methods.stages import Filtered
from trainer.micro_batches import dealt
from trainer.network import Block, Scored
from trainer.rollout import Rollouts
from trainer.step import Update
from trainer.workers import ALONE, Workers, inner, is_shard, is_sharded, local, weights_set_to

# Share of the parameter step at which the gradients of the second-order term are taken: large enough that float32
# rounding of a gradient (about 1e-6) does not matter, small enough that the fourth order (epsilon^2) does not.
EPSILON = 0.1


@dataclass(frozen=True)
class Change:
    """The entropy change of one update on the probe's contexts, in nats per token.

    Args:
        measured: mean entropy after less mean entropy before.
        first_order: <gradient of H, parameter step>, the step being what the whole update did; None without gradient.
        second_order: 1/2 step' (Hessian of H) step; None where it was not asked for.
        per_token: measured change at each token, `[n, T]`.
        theorem: Theorem 1's objects at each token, with the measured change of probabilities, `[n, T]`; None where
            they were not asked for.
    """

    measured: float
    first_order: float | None
    second_order: float | None
    per_token: Tensor
    theorem: MeasuredTheorem1 | None = None


class Probe:
    """Remembers the weights, entropies and the gradient of entropy before an update, and compares after it.

    Several processes share the probe's rows among them. The parameters' `.grad` are left as they are.

    Args:
        network: the policy's network, as the processes share it.
        rollouts: the probe's rows.
        temperature: the sampling temperature.
        micro_batch_rows: most rows of one pass.
        micro_batch_tokens: most tokens of one; 0 counts rows alone.
        workers: the processes.
        gradient: also find the gradient of entropy. Without it only the measured change is known afterwards, and the
            entropies before are those that the sampler recorded: one pass less, and where sampler and trainer differ,
            as in half precision, a constant offset.
    """

    def __init__(
        self,
        network: nn.Module,
        rollouts: Rollouts,
        temperature: float,
        micro_batch_rows: int,
        micro_batch_tokens: int = 0,
        workers: Workers = ALONE,
        *,
        gradient: bool = True,
    ) -> None:
        # Copies are not told to exchange gradients: those of entropy are summed here.
        self.network, self.rollouts, self.workers = inner(network), rollouts, workers
        self.temperature = temperature
        self.parts = dealt(rollouts.attention.sum(1), micro_batch_rows, micro_batch_tokens, workers)
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.before = [parameter.detach().clone() for parameter in self.parameters] if gradient else None
        self.gradient, self.entropies = self.entropy_gradient() if gradient else ([], rollouts.entropy)

    def after(self, second_order: bool) -> Change:
        """Return the change since the probe was made; weights are left as they are, to the last bit."""
        changes = self.all_entropies() - self.entropies
        if self.before is None:
            return Change(self.rollouts.mean(changes), None, None, changes)
        with torch.no_grad():
            step = [now - then for now, then in zip(self.parameters, self.before, strict=True)]
        return Change(
            measured=self.rollouts.mean(changes),
            first_order=self.over_shards(first_order_along(locals_of(self.gradient), locals_of(step))),
            second_order=self.second_order(self.before, step) if second_order else None,
            per_token=changes,
        )

    def second_order(self, before: list[Tensor], step: list[Tensor]) -> float:
        """Return the second-order term of the step from the weights before it."""
        ahead, behind = (locals_of(self.gradient_at(share, before, step)) for share in (EPSILON, -EPSILON))
        return self.over_shards(second_order_along(ahead, behind, locals_of(step), EPSILON))

    def gradient_at(self, epsilon: float, before: list[Tensor], step: list[Tensor]) -> list[Tensor]:
        """Return the gradient of entropy at the weights before the update plus `epsilon` times the step."""
        moved = [then + epsilon * v for then, v in zip(before, step, strict=True)]
        with weights_set_to(self.network, self.parameters, moved):
            return self.entropy_gradient()[0]

    def entropies_of(self, rows: Tensor) -> Tensor:
        """Return the entropy at each token of these rows, 0 outside the mask, as wide as the whole probe `[n, T]`."""
        found = scored_rows(self.network, self.rollouts, rows, self.temperature).entropy
        spare = self.rollouts.mask.shape[1] - found.shape[1]
        return nn.functional.pad(found, (0, spare))[: len(rows)]

    @torch.no_grad()
    def all_entropies(self) -> Tensor:
        """Return the entropy at each token, `[n, T]`."""
        return self.all_rows([self.entropies_of(rows) for rows in self.parts])

    def entropy_gradient(self) -> tuple[list[Tensor], Tensor]:
        """Return the gradient of the probe's mean entropy in the parameters, and the entropies `[n, T]`."""
        tokens, entropies = int(self.rollouts.mask.sum()), []
        kept = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        for rows in self.parts:
            values = self.entropies_of(rows)
            entropies.append(values.detach())
            (values.sum() / tokens).backward()
        gradient = [self.summed_gradient(parameter) for parameter in self.parameters]
        for parameter, before in zip(self.parameters, kept, strict=True):
            parameter.grad = before
        return gradient, self.all_rows(entropies)

    def summed_gradient(self, parameter: nn.Parameter) -> Tensor:
        """Return a parameter's gradient, summed over the processes."""
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        # Shards come as means over the processes, copies each as a share.
        return gradient * self.workers.count if is_shard(parameter) else self.workers.total(gradient)

    def all_rows(self, parts: list[Tensor]) -> Tensor:
        """Return what the processes found for their rows, in the order of the probe's rows."""
        found = torch.cat(parts)
        every = found.new_zeros(len(self.rollouts.mask), *found.shape[1:])
        every[torch.cat(self.parts)] = found
        return self.workers.total(every)

    def over_shards(self, value: float) -> float:
        """Return a sum over parameters: over all processes where each holds shards."""
        if not is_sharded(self.network):
            return value
        return float(self.workers.total(torch.tensor(value, dtype=torch.float64, device=self.parameters[0].device)))


def scored_rows(network: nn.Module, rollouts: Rollouts, rows: Tensor, temperature: float) -> Scored:
    """Return what the network says of these rows; where there is none, of one that is not looked at.

    A process without rows takes part in the pass all the same.
    """
    part = rollouts.rows(rows if len(rows) else torch.zeros(1, dtype=torch.long, device=rollouts.mask.device))
    scored: Scored = network(Block(part.tokens, part.attention, part.mask, temperature))
    return scored


def locals_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return what this process holds of each tensor."""
    return [local(tensor) for tensor in tensors]


@dataclass(frozen=True)
class TabularTerms:
    """What the tabular formulas predict for the trained tokens at step size 1, in nats per token.

    Args:
        unit: the E4 sum, sum over tokens of A (N - S_k) over the loss's denominator.
        covariance: its part from the batch's covariance of advantage and influence.
        curvature: the second-order sum C sum_t (A_t / denominator)^2 (e_k - p)' (Hessian of H) (e_k - p) / 2, C being
            all tokens of the batch: with step size s = eta / C in the first order, s^2 times it is the second.
    """

    unit: float
    covariance: float
    curvature: float


def tabular_terms(rollouts: Rollouts, filtered: Filtered, update: Update) -> TabularTerms:
    """Return the tabular prediction for a step of size 1: what the update would do if every context owned its logits.

    unit = sum_t A_t (N_t - S_t) / denominator. Its covariance part is Cov(A, N - S) over the accepted tokens; the rest,
    mean(A) mean(N - S), is sampling noise with expectation zero on-policy (X2).

    Valid for one pass over the rollouts, at ratios of 1: clipping and reuse are not in it.

    Source: E4 and X1; arXiv 2602.03392, Theorem 3.3.
    """
    weights = filtered.weights.flatten().double().to(rollouts.mask.device)
    counted = rollouts.mask * ((weights > 0) & (update.tokens_per_row > 0))[:, None]
    if not counted.any():
        return TabularTerms(0.0, 0.0, 0.0)
    share = counted / update.tokens_per_row.double().clamp(min=1)[:, None]
    advantage = weighted_advantages(filtered, rollouts.record.mask).double()
    influence = rollouts.influence.double()
    unit = float((share * advantage * influence).sum())
    noise = (share * advantage).sum() * (share * influence).sum() / share.sum()
    return TabularTerms(
        unit=unit,
        covariance=unit - float(noise),
        curvature=float(((share * advantage).square() * rollouts.curvature.double()).sum() * rollouts.mask.sum()),
    )


@dataclass(frozen=True)
class OnlineScale:
    """The factor between the tabular prediction at step size 1 and the measured change, fitted as the run goes.

    Least squares through the origin with forgetting; a step's scale uses earlier steps alone, so its prediction is one.

    Args:
        cross: discounted sum of predicted times measured.
        square: discounted sum of predicted squared.
        forgetting: discount a step; 0.95 remembers about 20 steps.
    """

    cross: float = 0.0
    square: float = 0.0
    forgetting: float = 0.95

    @property
    def value(self) -> float | None:
        """The scale, None before anything was seen.

        >>> OnlineScale().learn(predicted=2.0, measured=1.0).value
        0.5
        """
        return self.cross / self.square if self.square > 0 else None

    def learn(self, *, predicted: float, measured: float) -> "OnlineScale":
        """Return the scale with one more step seen."""
        return OnlineScale(
            self.forgetting * self.cross + predicted * measured,
            self.forgetting * self.square + predicted**2,
            self.forgetting,
        )


def sign_rule_agreement(advantages: Tensor, changes: Tensor, mask: Tensor) -> float | None:
    """Return the share of tokens with A * Delta H <= 0, the paper's sign rule with measured changes.

    Args:
        advantages: `[n, T]`, as used by the update; tokens with 0 are left out.
        changes: `[n, T]`, measured entropy change at each token's own context, nats.
        mask: `[n, T]`.

    Returns:
        A share in [0, 1]; None where no token has an advantage.

    Source: arXiv 2604.26326, Theorem 1.

    >>> sign_rule_agreement(torch.ones(1, 2), torch.tensor([[-0.1, 0.2]]), torch.ones(1, 2).bool())
    0.5
    """
    counted = mask & (advantages != 0)
    if not counted.any():
        return None
    return float((advantages * changes <= 0)[counted].double().mean())
