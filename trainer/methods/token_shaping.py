"""Shaping by each token's first-order effect on entropy: masks and weights fixed before the update.

S = p (log p + H), and N - S the change of the context's entropy per unit of step and advantage (E4), both of the policy
that sampled; statistics are over the tokens of the whole batch of each repeat.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainer.methods.shaping import BATCH, masked, moments
from trainer.methods.stages import Groups


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

    >>> from trainer.methods.stages import TokenRecord
    >>> log_prob = torch.tensor([[[-1.0], [-1.0], [-3.0]]])
    >>> record = TokenRecord(log_prob < 0, log_prob, 1 + 0 * log_prob)  # S: 0, 0 and -2 exp(-3)
    >>> ClipB(1.0)(Groups.of_rewards(torch.tensor([[1.0, -1.0, -1.0]]), record)).flatten()
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

    >>> from trainer.methods.stages import TokenRecord
    >>> d = torch.tensor([[[0.0], [0.0], [3.0]]])
    >>> record = TokenRecord(d >= 0, d - 1, d, influence=d)
    >>> ClipV(1.0)(Groups.of_rewards(torch.tensor([[1.0, -1.0, -1.0]]), record)).flatten()
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

    >>> from trainer.methods.stages import TokenRecord
    >>> d = torch.tensor([[[1.0], [3.0]]])
    >>> record = TokenRecord(d > 0, -d, d, influence=d)
    >>> OPEFO()(Groups.of_rewards(torch.tensor([[1.0, -1.0]]), record)).flatten()  # U = 1, D = 3, lam = 1/2
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


def influence_of(groups: Groups, method: str) -> tuple[Float[Tensor, "*R P G T"], Bool[Tensor, "*R P G T"]]:
    """Return the tokens' influence, 0 outside the mask, and the mask."""
    record = groups.tokens_of(method, "influence")
    assert record.influence is not None
    return record.influence.masked_fill(~record.mask, 0.0), record.mask
