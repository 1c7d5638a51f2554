"""Shaping: advantages `[*R, P, G]` or `[*R, P, G, T]` from the estimator's and what was recorded of the tokens.

Everything a method measures is of the policy that sampled, before the update, over the whole batch of each repeat.
Right answers are those with a reward above 0. p is a token's probability, H its entropy, A its advantage,
L = log p + H, S = p L, and N - S the context's entropy change per unit of step and advantage (E4).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.methods.stages import Groups, TokenRecord

BATCH = (-3, -2, -1)


@dataclass(frozen=True)
class Whiten:
    """Discounted returns (gamma^(tokens left) A), whitened over the batch's tokens: (x - mean) / sqrt(var + eps).

    A, one value a rollout, stands at its last token. With the advantage `reinforce` this is REINFORCE++, with
    `dr_grpo` REINFORCE++-baseline. Mean and variance are over the tokens of each repeat, the variance with Bessel's
    correction as in verl (OpenRLHF divides by the number of tokens). Equal returns give 0 exactly.

    Args:
        gamma: discount a token.
        eps: added to the variance, in squared units of the reward.

    Raises:
        ValueError: gamma outside [0, 1], or a negative eps.

    Source: Hu et al. 2025, arXiv 2501.03262; masked_whiten of verl. Ours: advantages of one value a token enter by
    their mean over the rollout.

    >>> row = torch.ones(1, 2, 1)
    >>> groups = Groups.of_rewards(torch.tensor([[1.0, -1.0]]), TokenRecord(row.bool(), -row, row))
    >>> Whiten()(groups).flatten().round(decimals=3)  # returns 1 and -1: variance 2
    tensor([ 0.7070, -0.7070])
    """

    gamma: float = 1.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not (0 <= self.gamma <= 1 and self.eps >= 0):
            raise ValueError(
                f"Whiten(gamma={self.gamma}, eps={self.eps}) must have gamma in [0, 1] and eps >= 0; got another. "
                "Use 1 and 1e-8."
            )

    def __call__(self, groups: Groups) -> Float[Tensor, "*R P G T"]:
        """Return the whitened returns of the tokens."""
        mask = groups.tokens_of("Whiten").mask
        outcome = groups.rollout_advantages[..., None]
        left = mask.flip(-1).cumsum(-1).flip(-1) - mask.long()
        returns = outcome * self.gamma ** left.to(outcome.dtype)
        mean, square, count = moments(returns, mask)
        variance = square * count / (count - 1).clamp(min=1)
        equal = extreme(returns, mask, "amax") == extreme(returns, mask, "amin")
        whitened = (returns - mean) / (variance + self.eps).sqrt()
        return torch.where(mask & ~equal, whitened, 0.0)


@dataclass(frozen=True)
class UCPO:
    """Move a group's positive advantage from its likely right answers to its unlikely ones, the total unchanged.

    Over the right answers C of a group: u_i = log p(y_i) / |y_i|, q = softmax(u) over C, at least 1e-6,
    w_i = (1 - tau) / |C| + tau (1/q_i) / sum over C of 1/q_j, A_i -> A_i |C| w_i. Wrong answers and groups with
    fewer than two right ones keep theirs.

    Valid for GRPO's advantages, which are equal over C.

    Args:
        tau: how far to move, 0 (not at all) to 1; 0.2 in the authors' runs.

    Raises:
        ValueError: tau outside [0, 1].

    Source: arXiv 2605.00365, as coded at github.com/AnamikaLochab/UCPO, without its sharpening of wrong answers, which
    the released runs switch off.

    >>> log_prob = torch.tensor([[[-2.0], [-1.0], [-1.0]]])
    >>> record = TokenRecord(log_prob < 0, log_prob, 0 * log_prob)
    >>> UCPO(1.0)(Groups.of_rewards(torch.tensor([[1.0, 1.0, -1.0]]), record)).round(decimals=3)  # 1/q is as e to 1
    tensor([[ 1.4620,  0.5380, -1.0000]])
    """

    tau: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise ValueError(f"UCPO(tau={self.tau}) must be in [0, 1]; got {self.tau}. Use 0.2.")

    def __call__(self, groups: Groups) -> Float[Tensor, "..."]:
        """Return the advantages, of the shape given."""
        record, correct = groups.tokens_of("UCPO"), groups.rewards > 0
        likely = row_mean(record.log_prob, record)
        share = likely.masked_fill(~correct, -torch.inf).softmax(-1).clamp(min=1e-6)
        inverse = torch.where(correct, 1 / share, 0.0)
        count = correct.sum(-1, keepdim=True)
        total = torch.where(count > 0, inverse.sum(-1, keepdim=True), 1.0)
        factor = 1 - self.tau + self.tau * count * inverse / total
        return rescaled(groups.advantages, torch.where(correct & (count >= 2), factor, 1.0))


@dataclass(frozen=True)
class AEM:
    """Weigh a group's confident rollouts more: A -> A alpha, alpha = exp(-strength h) / group mean of the same.

    h is the rollout's mean token entropy, scaled to [0, 1] between the group's least and greatest. Groups in which
    these lie less than least_spread apart keep their advantages, and so do rollouts without tokens.

    Args:
        strength: lambda; 1 in the paper.
        least_spread: nats per token; 0.1 in the paper.

    Raises:
        ValueError: a negative setting.

    Source: arXiv 2605.00425. Ours: one response is one span, as in single-turn tasks.

    >>> entropy = torch.tensor([[[0.2], [0.9]]])
    >>> record = TokenRecord(entropy > 0, -entropy, entropy)
    >>> AEM()(Groups.of_rewards(torch.tensor([[1.0, -1.0]]), record)).round(decimals=3)  # 2 / (1 + 1/e) and 2 / (1 + e)
    tensor([[ 1.4620, -0.5380]])
    """

    strength: float = 1.0
    least_spread: float = 0.1

    def __post_init__(self) -> None:
        if not (self.strength >= 0 and self.least_spread >= 0):
            raise ValueError(
                f"AEM(strength={self.strength}, least_spread={self.least_spread}) must not be negative; got "
                f"{min(self.strength, self.least_spread)}. Use 1 and 0.1."
            )

    def __call__(self, groups: Groups) -> Float[Tensor, "..."]:
        """Return the advantages, of the shape given."""
        record = groups.tokens_of("AEM")
        spans, entropy = record.lengths > 0, row_mean(record.entropy, record)
        least = entropy.masked_fill(~spans, torch.inf).amin(-1, keepdim=True)
        spread = entropy.masked_fill(~spans, -torch.inf).amax(-1, keepdim=True) - least
        varied = spans & (spread >= self.least_spread) & (spread > 0)
        place = torch.where(varied, (entropy - least) / spread, 0.0)
        weight = (-self.strength * place).exp().masked_fill(~spans, 0.0)
        mean = weight.sum(-1, keepdim=True) / spans.sum(-1, keepdim=True).clamp(min=1)
        return rescaled(groups.advantages, torch.where(varied, weight / mean, 1.0))


@dataclass(frozen=True)
class DCPO:
    """Pull right answers towards the policy at another temperature: A -> (1 - w) A + w 1[right] p_T / p per token.

    p_T is the sampled token's probability at temperature `high` where H <= target, `low` where H > target.
    w = x / (1 + x), x = min(|target - H|, reach) / (share of right answers).

    Args:
        target: entropy that is wanted, nats per token; 0.5 in the authors' script.
        high: temperature when entropy is too low.
        low: temperature when entropy is too high.
        reach: greatest gap that counts, nats per token.

    Raises:
        ValueError: temperatures that are not 0 < low <= high, a negative target or reach; or, when called, a record
            without these temperatures.

    Source: github.com/597358816/AEPO. Ours: H is the entropy of this batch, where the authors take the one that the
    last update saw; a batch without a right answer keeps its advantages.

    >>> log_prob = torch.tensor([[[-2.0]]])
    >>> record = TokenRecord(log_prob < 0, log_prob, -log_prob, tempered={1.2: log_prob + 1, 0.8: log_prob - 1})
    >>> groups = Groups.of_rewards(torch.tensor([[3.0]]), record, entropy=0.0)
    >>> DCPO()(groups).round(decimals=3)  # w = 1/11: (30 + e) / 11
    tensor([[[2.9740]]])
    """

    target: float = 0.5
    high: float = 1.2
    low: float = 0.8
    reach: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.low <= self.high and self.target >= 0 and self.reach >= 0):
            raise ValueError(
                f"DCPO(target={self.target}, high={self.high}, low={self.low}, reach={self.reach}) must have "
                "0 < low <= high, target >= 0 and reach >= 0; got another. Use 0.5, 1.2, 0.8 and 0.1."
            )

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures at which the record must have log-probabilities."""
        return (self.low, self.high)

    def __call__(self, groups: Groups) -> Float[Tensor, "*R P G T"]:
        """Return the advantages of the tokens."""
        record = groups.tokens_of("DCPO")
        absent = [value for value in self.temperatures if value not in record.tempered]
        if absent:
            raise ValueError(
                f"DCPO(groups) must have groups.record.tempered at {self.temperatures}; got none at {absent}. "
                "Record the sampled tokens' log-probability at these temperatures."
            )
        correct = (groups.rewards > 0).to(groups.rewards.dtype)
        share = correct.mean((-2, -1), keepdim=True)
        excess = a_repeat(groups.entropy, share) - self.target
        gap = excess.abs().clamp(max=self.reach)
        w = torch.where(share > 0, gap / (share + gap), 0.0)[..., None]
        towards = torch.where(excess[..., None] > 0, record.tempered[self.low], record.tempered[self.high])
        pull = correct[..., None] * (towards - record.log_prob).exp()
        return masked((1 - w) * groups.token_advantages + w * pull, groups)


@dataclass(frozen=True)
class REPO:
    """A -> A - beta L per token, L = log p + H: surprising tokens gain, confident ones lose.

    In expectation an entropy bonus of coefficient beta, estimated from the sampled tokens.

    Args:
        beta: weight, nats^-1; negative values lower entropy.

    Source: Petrenko et al. 2026, arXiv 2603.11682, the form with a constant beta. Ours: L is of the policy that
    sampled; the authors give no default beta.

    >>> log_prob = torch.tensor([[[-3.0]]])
    >>> REPO(0.1)(Groups.of_rewards(torch.tensor([[1.0]]), TokenRecord(log_prob < 0, log_prob, 0 * log_prob + 1)))
    tensor([[[1.2000]]])
    """

    beta: float

    def __call__(self, groups: Groups) -> Float[Tensor, "*R P G T"]:
        """Return the advantages of the tokens."""
        record = groups.tokens_of("REPO")
        return masked(groups.token_advantages - self.beta * (record.log_prob + record.entropy), groups)


def moments(
    values: Float[Tensor, "*R P G T"], mask: Bool[Tensor, "*R P G T"]
) -> tuple[Float[Tensor, "*R 1 1 1"], Float[Tensor, "*R 1 1 1"], Int[Tensor, "*R 1 1 1"]]:
    """Return mean, population variance and number of the tokens of each repeat; 0, 0 and 0 where there are none."""
    count = mask.sum(BATCH, keepdim=True)
    mean = values.masked_fill(~mask, 0.0).sum(BATCH, keepdim=True) / count.clamp(min=1)
    squares = (values - mean).masked_fill(~mask, 0.0).square()
    return mean, squares.sum(BATCH, keepdim=True) / count.clamp(min=1), count


def extreme(values: Float[Tensor, "*R P G T"], mask: Bool[Tensor, "*R P G T"], which: str) -> Float[Tensor, "*R 1 1 1"]:
    """Return the least (`amin`) or greatest (`amax`) value of the tokens of each repeat."""
    filled = values.masked_fill(~mask, torch.inf if which == "amin" else -torch.inf)
    return filled.amin(BATCH, keepdim=True) if which == "amin" else filled.amax(BATCH, keepdim=True)


def row_mean(values: Float[Tensor, "*R P G T"], record: TokenRecord) -> Float[Tensor, "*R P G"]:
    """Return the mean over each rollout's tokens; 0 where it has none."""
    return values.masked_fill(~record.mask, 0.0).sum(-1) / record.lengths.clamp(min=1)


def rescaled(advantages: Float[Tensor, "..."], factor: Float[Tensor, "*R P G"]) -> Float[Tensor, "..."]:
    """Return advantages, one a rollout or one a token, times a factor a rollout."""
    factor = factor.to(advantages.dtype)
    return advantages * (factor if advantages.dim() == factor.dim() else factor[..., None])


def masked(advantages: Float[Tensor, "*R P G T"], groups: Groups) -> Float[Tensor, "*R P G T"]:
    """Return token advantages in the type they were given in, 0 outside the mask."""
    return advantages.masked_fill(~groups.tokens_of("shaping").mask, 0.0).to(groups.advantages.dtype)


def a_repeat(value: Any, like: Tensor) -> Float[Tensor, "*R 1 1"]:
    """Return a number, or one a repeat, with axes that broadcast over prompts and samples."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)[..., None, None]
