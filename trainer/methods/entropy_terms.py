"""Loss terms with memory: coefficients that follow the entropy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from entropy_theory import entropy as entropy_of
from trainer.methods.stages import Observation, State, TokenBatch, masked_mean
from trainer.methods.token_statistics import as_number, given, importance_ratio, per_repeat


@dataclass(frozen=True)
class AEC:
    """Skywork's adaptive entropy bonus: -c H per token, applied only while the entropy is below a target.

    After each step c <- min(max(c + rate, 0), most) where H < target, else min(max(c - rate, 0), most).

    Args:
        target: entropy wanted, nats per token; 0.2.
        initial: the first coefficient, nats^-1; 0.
        rate: by how much it moves after a step; 1e-4.
        most: its greatest value; 5e-3.

    Raises:
        ValueError: not 0 <= initial <= most, or rate < 0.

    Source: Skywork-OR1, arXiv 2505.22312, and its code. Ours: whether the bonus applies goes by the last finished
    step's entropy, where the code takes the current batch's; no bonus before the first step.

    >>> from trainer.methods.stages import Band
    >>> AEC().step(AEC().start(), Observation(0, 0.1, Band(0.0, 1.0)))[1]["aec_coefficient"].item()
    0.0001
    """

    target: float = 0.2
    initial: float = 0.0
    rate: float = 1e-4
    most: float = 5e-3
    needs = frozenset({"entropy_gradient"})

    def __post_init__(self) -> None:
        if not (0 <= self.initial <= self.most and self.rate >= 0):
            raise ValueError(f"{self} must have 0 <= initial <= most and rate >= 0. Reorder the two, or raise most.")

    def start(self) -> State:
        """Return the first coefficient, not applied."""
        return {"coefficient": self.initial, "applied": 0.0}

    def decide(self, state: State, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the term `[*R, B, T]`."""
        coefficient = per_repeat(as_number(state["coefficient"]) * state["applied"], tokens.log_prob)
        return (-coefficient * tokens.entropy).masked_fill(~tokens.mask, 0.0)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Move the coefficient, and note whether it applies."""
        below = (as_number(observation.entropy) < self.target).double()
        coefficient = (as_number(state["coefficient"]) + self.rate * (2 * below - 1)).clamp(0.0, self.most)
        return {"coefficient": coefficient, "applied": below}, {"aec_coefficient": coefficient * below}


@dataclass(frozen=True)
class AEnt:
    """A bonus -lambda H' on the entropy H' of the likelier part of the vocabulary, with a dead zone for lambda.

    H' leaves out the floor(dropped * V) tokens of lowest logit and renormalises the rest; no gradient flows through
    which they are. After each step lambda <- min(max(lambda - rate (min(0, H - low) + max(0, H - high)), least), most).

    Args:
        dropped: share of the vocabulary left out; 0.3 in verl's recipe, 0.2 in AReaL.
        initial: the first lambda, nats^-1; 2e-4 in verl's recipe, 1e-3 in AReaL.
        low: below this entropy lambda rises, nats; 0.1 in AReaL.
        high: above this entropy lambda falls, nats; 0.5 in AReaL.
        rate: step size of lambda, nats^-2; 1e-3 in AReaL. verl's recipe keeps lambda fixed: rate = 0.
        least: least lambda; 4e-5 in verl's recipe, 1e-5 in AReaL.
        most: greatest lambda; 0.1 in verl's recipe, 1e-2 in AReaL.

    Raises:
        ValueError: dropped outside [0, 1), low > high, rate < 0, or not least <= initial <= most.

    Source: arXiv 2509.03493; constants of its recipes in verl and AReaL. Ours: verl's constants with
    AReaL's controller as defaults; the controller sees the batch's full entropy H, since H' is not observed.

    >>> import torch
    >>> logits, ones = torch.tensor([[[0.0, 0.0, -1.0]]]), torch.ones(1, 1)  # two of three are left: log 2
    >>> term = AEnt(dropped=0.4, initial=0.1)
    >>> term.decide(term.start(), TokenBatch(-ones, -ones, ones, ones.bool(), ones, logits=logits)).round(decimals=4)
    tensor([[-0.0693]])
    """

    dropped: float = 0.3
    initial: float = 2e-4
    low: float = 0.1
    high: float = 0.5
    rate: float = 1e-3
    least: float = 4e-5
    most: float = 0.1
    needs = frozenset({"logits"})

    def __post_init__(self) -> None:
        if not (0 <= self.dropped < 1 and self.low <= self.high):
            raise ValueError(f"{self} must have 0 <= dropped < 1 and low <= high.")
        if not (self.least <= self.initial <= self.most and self.rate >= 0):
            raise ValueError(f"{self} must have least <= initial <= most and rate >= 0. Reorder the three.")

    def start(self) -> State:
        """Return the first lambda."""
        return {"lambda": self.initial}

    def decide(self, state: State, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the term `[*R, B, T]`."""
        logits = given(tokens.logits, "AEnt", "logits")
        vocabulary = logits.shape[-1]
        kept = logits.topk(vocabulary - int(self.dropped * vocabulary), dim=-1).values
        clamped = entropy_of(kept).to(tokens.log_prob.dtype)
        return (-per_repeat(state["lambda"], tokens.log_prob) * clamped).masked_fill(~tokens.mask, 0.0)

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Move lambda where the entropy is outside [low, high]."""
        entropy = as_number(observation.entropy)
        outside = (entropy - self.low).clamp(max=0.0) + (entropy - self.high).clamp(min=0.0)
        value = (as_number(state["lambda"]) - self.rate * outside).clamp(self.least, self.most)
        return {"lambda": value}, {"aent_lambda": value}


@dataclass(frozen=True)
class EntroPIC:
    """A proportional-integral controller that scales the pull on tokens of high probability.

    Adds alpha times the mean of -r |A| over the tokens with pi > threshold: positive advantages there count 1 + alpha
    times and negative ones 1 - alpha times, up to the denominator of that mean. alpha = clip(proportional e +
    integral I, -1, 1), e = H - target with H the mini-batch's mean entropy; I <- I + e after each step. With the
    entropy too low alpha < 0: confident tokens are reinforced less and punished more.

    Args:
        target: entropy wanted, nats per token; 0.1 for Qwen3-8B-Base.
        proportional: gain of e, nats^-1; 1.
        integral: gain of I, nats^-1; 0.01.
        threshold: probability above which a token counts; 0.95.

    Raises:
        ValueError: threshold outside [0, 1].

    Source: arXiv 2511.15248 and its code. The loss here is a mean over all tokens, so the term is multiplied by the
    mini-batch's tokens / tokens chosen. Ours: H and the number chosen over the mini-batch, where the code takes the
    micro-batch; I adds the batch's entropy before the update.

    >>> import torch
    >>> p, ones = torch.tensor([[0.99, 0.5]]).log(), torch.ones(1, 2)  # e = 0.3: alpha 0.3, times 2 tokens / 1 chosen
    >>> EntroPIC(target=0.1).decide({"integral": 0.0}, TokenBatch(p, p, ones, ones.bool(), 0.4 * ones))
    tensor([[-0.6000, -0.0000]])
    """

    target: float = 0.1
    proportional: float = 1.0
    integral: float = 0.01
    threshold: float = 0.95
    needs = frozenset({"mini_batch", "entropy"})

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"{self} must have 0 < threshold <= 1. It is a probability.")

    def start(self) -> State:
        """Return an integral of 0."""
        return {"integral": 0.0}

    def decide(self, state: State, tokens: TokenBatch) -> Float[Tensor, "*R B T"]:
        """Return the term `[*R, B, T]`."""

        def gain(batch: TokenBatch) -> Tensor:
            error = masked_mean(batch.entropy, batch.mask) - self.target
            alpha = self.proportional * error + self.integral * per_repeat(state["integral"], batch.log_prob)
            chosen = ((batch.log_prob > math.log(self.threshold)) & batch.mask).to(batch.log_prob)
            share = masked_mean(chosen, batch.mask)
            return alpha.clamp(-1.0, 1.0) * chosen / share.where(share > 0, 1.0)

        return -tokens.over_mini_batch(gain) * importance_ratio(tokens) * tokens.advantages.abs()

    def step(self, state: State, observation: Observation) -> tuple[State, Mapping[str, Any]]:
        """Add the step's error to the integral."""
        integral = as_number(state["integral"]) + (as_number(observation.entropy) - self.target)
        return {"integral": integral}, {"entropic_integral": integral}
