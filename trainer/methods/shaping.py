"""Shaping: advantages `[*R, P, G]` or `[*R, P, G, T]` from the estimator's and what was recorded of the tokens.

Everything a method measures is of the policy that sampled, before the update, over the whole batch of each repeat.
Right answers are those with a reward above 0. p is a token's probability, H its entropy, A its advantage,
L = log p + H, S = p L, and N - S the context's entropy change per unit of step and advantage (E4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trainer.methods.stages import Band, Groups, Observation, State, TokenRecord

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
    >>> groups = example(torch.tensor([[1.0, -1.0]]), TokenRecord(row.bool(), -row, row))
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
    >>> UCPO(1.0)(example(torch.tensor([[1.0, 1.0, -1.0]]), record)).round(decimals=3)  # 1/q is as e to 1
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
    >>> AEM()(example(torch.tensor([[1.0, -1.0]]), record)).round(decimals=3)  # 2 / (1 + 1/e) and 2 / (1 + e)
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
    >>> DCPO()(example(torch.tensor([[3.0]]), record, entropy=0.0)).round(decimals=3)  # w = 1/11: (30 + e) / 11
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
class EntroPICPaper:
    """EntroPIC as a baseline of Entrocraft: (1 + alpha) A for right answers, (1 - alpha) A for wrong ones.

    alpha = I + e, e = H - target, H of this batch; after the step I += integral_gain e. Entropy that is too low gives
    alpha < 0: less weight on right answers, more on wrong ones. alpha is not bounded.

    The authors apply it to rewards of -1 and +1 without a baseline: use the advantage `reinforce`.

    Args:
        target: nats per token; 0.5 in that code.
        integral_gain: nats^-1 a step; 0.01 in that code. The proportional gain is 1 nats^-1.

    Raises:
        ValueError: a negative target or gain.

    Source: estimator entropic of github.com/lblaoke/entrocraft, after arXiv 2511.15248.

    >>> groups = example(torch.tensor([[1.0, -1.0]]), entropy=0.4)
    >>> EntroPICPaper().decide({"integral": 0.0}, groups)  # alpha = -0.1
    tensor([[ 0.9000, -1.1000]])
    """

    target: float = 0.5
    integral_gain: float = 0.01

    def __post_init__(self) -> None:
        if not (self.target >= 0 and self.integral_gain >= 0):
            raise ValueError(
                f"EntroPICPaper(target={self.target}, integral_gain={self.integral_gain}) must not be negative; got "
                f"{min(self.target, self.integral_gain)}. Use 0.5 and 0.01."
            )

    def start(self) -> State:
        """Return an integral of 0."""
        return {"integral": 0.0}

    def decide(self, state: State, groups: Groups) -> Float[Tensor, "..."]:
        """Return the advantages, of the shape given."""
        rewards = groups.rewards
        alpha = a_repeat(state["integral"], rewards) + a_repeat(groups.entropy, rewards) - self.target
        return rescaled(groups.advantages, torch.where(rewards > 0, 1 + alpha, 1 - alpha))

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the integral with this step's error."""
        integral = state["integral"] + self.integral_gain * (observation.entropy - self.target)
        return {"integral": integral}, {"entropic_integral": integral}


@dataclass(frozen=True)
class ClipB:
    """Mask the tokens with A < 0 whose S = p (log p + H) lies more than mu standard deviations below its mean.

    These are among the tokens that lower entropy: A < 0 and p below exp(-H). Mean and population standard deviation
    are over the tokens of the batch. A masked token has advantage 0.

    Args:
        mu: standard deviations; 2.5 in the paper, which sweeps 2 to 3.

    Raises:
        ValueError: a negative mu.

    Source: arXiv 2602.03392, as coded in the entropy example of github.com/hiyuchang/Trinity-RFT. Ours: masked tokens
    stay in the loss's denominator; there they leave it.

    >>> log_prob = torch.tensor([[[-1.0], [-1.0], [-3.0]]])
    >>> record = TokenRecord(log_prob < 0, log_prob, 1 + 0 * log_prob)  # S: 0, 0 and -2 exp(-3)
    >>> ClipB(1.0)(example(torch.tensor([[1.0, -1.0, -1.0]]), record)).flatten()
    tensor([ 1., -1.,  0.])
    """

    mu: float = 2.5

    def __post_init__(self) -> None:
        if not self.mu >= 0:
            raise ValueError(f"ClipB(mu={self.mu}) must not be negative; got {self.mu}. Use 2.5.")

    def __call__(self, groups: Groups) -> Float[Tensor, "*R P G T"]:
        """Return the advantages of the tokens, 0 where masked."""
        record, advantages = groups.tokens_of("ClipB"), groups.token_advantages
        push = record.log_prob.exp() * (record.log_prob + record.entropy)
        mean, variance, _ = moments(push, record.mask)
        deviation = variance.sqrt()
        low = (push - mean < -self.mu * deviation) & (deviation >= 1e-12)
        return advantages.masked_fill(low & (advantages < 0), 0.0)


@dataclass(frozen=True)
class ClipV:
    """Mask the tokens with A < 0 whose D = N - S exceeds mu standard deviations, at most max_fraction of all tokens.

    D > 0 with A < 0 is a token that lowers entropy (E4). The population standard deviation is over the tokens of the
    batch; D itself is not centred, its mean being near 0 on-policy. Where more tokens qualify than
    max(1, floor(max_fraction tokens)), those with the greatest D are masked. A masked token has advantage 0.

    Args:
        mu: standard deviations; 8.5 in the paper, which sweeps 7.5 to 8.5.
        max_fraction: share of the batch's tokens; 1e-4 in the code.

    Raises:
        ValueError: a negative mu, or max_fraction outside [0, 1].

    Source: arXiv 2602.03392, as coded in the entropy example of github.com/hiyuchang/Trinity-RFT. Ours: masked tokens
    stay in the loss's denominator; there they leave it.

    >>> d = torch.tensor([[[0.0], [0.0], [3.0]]])
    >>> record = TokenRecord(d >= 0, d - 1, d, influence=d)
    >>> ClipV(1.0)(example(torch.tensor([[1.0, -1.0, -1.0]]), record)).flatten()
    tensor([ 1., -1.,  0.])
    """

    mu: float = 8.5
    max_fraction: float = 1e-4
    needs = frozenset({"influence"})

    def __post_init__(self) -> None:
        if not (self.mu >= 0 and 0 <= self.max_fraction <= 1):
            raise ValueError(
                f"ClipV(mu={self.mu}, max_fraction={self.max_fraction}) must have mu >= 0 and max_fraction in [0, 1]; "
                "got another. Use 8.5 and 1e-4."
            )

    def __call__(self, groups: Groups) -> Float[Tensor, "*R P G T"]:
        """Return the advantages of the tokens, 0 where masked."""
        influence, mask = influence_of(groups, "ClipV")
        advantages = groups.token_advantages
        _, variance, count = moments(influence, mask)
        deviation = variance.sqrt()
        qualify = (influence > self.mu * deviation) & (deviation >= 1e-12) & (advantages < 0)
        most = (self.max_fraction * count.double()).floor().clamp(min=1)
        ordered = influence.masked_fill(~qualify, -torch.inf).flatten(-3).argsort(dim=-1, descending=True, stable=True)
        rank = ordered.argsort(dim=-1).reshape(influence.shape)
        return advantages.masked_fill(qualify & (rank < most), 0.0)


@dataclass(frozen=True)
class OPEFO:
    """Balance the predicted entropy change: tokens that raise it times 1 + lam, tokens that lower it times 1 - lam.

    dH = A (N - S) per token, lam = (D - U) / (D + U), U the sum of dH over tokens that raise entropy and D that of
    |dH| over those that lower it: the predicted change of the batch becomes (1 + lam) U - (1 - lam) D = 0. lam is 0
    where nothing changes.

    Valid for one update a batch, strictly on-policy.

    Source: the OPEFO paper's rule for lam. Ours: dH by E4, since its own formula is not known to us.

    >>> d = torch.tensor([[[1.0], [3.0]]])
    >>> record = TokenRecord(d > 0, -d, d, influence=d)
    >>> OPEFO()(example(torch.tensor([[1.0, -1.0]]), record)).flatten()  # U = 1, D = 3, lam = 1/2
    tensor([ 1.5000, -0.5000])
    """

    needs = frozenset({"influence"})

    def __call__(self, groups: Groups) -> Float[Tensor, "*R P G T"]:
        """Return the advantages of the tokens."""
        influence, _ = influence_of(groups, "OPEFO")
        advantages = groups.token_advantages
        change = advantages * influence
        total = change.abs().sum(BATCH, keepdim=True)
        lam = torch.where(total > 0, -change.sum(BATCH, keepdim=True) / total, 0.0)
        return masked(advantages * (1 + lam * change.sign()), groups)


@dataclass(frozen=True)
class PositiveReweighting:
    """Multiply advantages above 0 by a weight that moves by a fixed amount a step towards the target entropy.

    After a step, weight += increment sign(H - target), kept in [0, 1]: entropy below the target takes weight off
    positive advantages.

    Args:
        target: nats per token; 0.2 in the paper.
        increment: of the weight, a step.

    Raises:
        ValueError: a negative target or increment.

    Source: arXiv 2511.05993. Ours: the increment 0.01, the first weight 1, the bounds 0 and 1.

    >>> PositiveReweighting().decide({"weight": 0.5}, example(torch.tensor([[1.0, -1.0]])))
    tensor([[ 0.5000, -1.0000]])
    """

    target: float = 0.2
    increment: float = 0.01

    def __post_init__(self) -> None:
        if not (self.target >= 0 and self.increment >= 0):
            raise ValueError(
                f"PositiveReweighting(target={self.target}, increment={self.increment}) must not be negative; got "
                f"{min(self.target, self.increment)}. Use 0.2 and 0.01."
            )

    def start(self) -> State:
        """Return a weight of 1."""
        return {"weight": 1.0}

    def decide(self, state: State, groups: Groups) -> Float[Tensor, "..."]:
        """Return the advantages, of the shape given."""
        advantages = groups.advantages
        weight = a_repeat(state["weight"], advantages)
        weight = weight if advantages.dim() == groups.rewards.dim() else weight[..., None]
        return torch.where(advantages > 0, weight * advantages, advantages)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Return the weight moved towards the target."""
        excess = torch.as_tensor(observation.entropy, dtype=torch.float64) - self.target
        weight = (state["weight"] + self.increment * excess.sign()).clamp(0.0, 1.0)
        return {"weight": weight}, {"positive_weight": weight}


@dataclass(frozen=True)
class REPO:
    """A -> A - beta L per token, L = log p + H: surprising tokens gain, confident ones lose.

    In expectation an entropy bonus of coefficient beta, estimated from the sampled tokens.

    Args:
        beta: weight, nats^-1; negative values lower entropy.

    Source: Petrenko et al. 2026, arXiv 2603.11682, the form with a constant beta. Ours: L is of the policy that
    sampled; the authors give no default beta.

    >>> log_prob = torch.tensor([[[-3.0]]])
    >>> REPO(0.1)(example(torch.tensor([[1.0]]), TokenRecord(log_prob < 0, log_prob, 0 * log_prob + 1)))
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


def influence_of(groups: Groups, method: str) -> tuple[Float[Tensor, "*R P G T"], Bool[Tensor, "*R P G T"]]:
    """Return the tokens' influence, 0 outside the mask, and the mask."""
    record = groups.tokens_of(method, "influence")
    assert record.influence is not None
    return record.influence.masked_fill(~record.mask, 0.0), record.mask


def a_repeat(value: Any, like: Tensor) -> Float[Tensor, "*R 1 1"]:
    """Return a number, or one a repeat, with axes that broadcast over prompts and samples."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)[..., None, None]


def example(rewards: Tensor, record: TokenRecord | None = None, entropy: float = 0.5) -> Groups:
    """Return a batch whose advantages are its rewards, for the examples above."""
    return Groups(rewards, rewards, entropy, Band(0.4, 0.6), step=0, record=record)
