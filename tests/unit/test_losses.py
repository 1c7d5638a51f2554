"""Clip rules, loss terms and denominators, against numbers worked by hand."""

import copy
import math

import pytest
import torch

from trainer.methods.clips import PPOClip
from trainer.methods.denominators import drop, zero
from trainer.methods.losses import EntropyBonus, KLPenalty, k3
from trainer.methods.stages import TokenBatch

CLOSED_FORM = 1e-10

# clip range 0.8 .. 1.3; objective min(r A, clip(r) A), and whether the lower or upper bound removed the gradient
CASES = [
    # ratio, advantage, objective, low, high
    (0.5, 2.0, 1.0, False, False),
    (0.9, 2.0, 1.8, False, False),
    (1.0, 2.0, 2.0, False, False),
    (1.25, 2.0, 2.5, False, False),
    (1.5, 2.0, 2.6, False, True),
    (0.5, -2.0, -1.6, True, False),
    (0.9, -2.0, -1.8, False, False),
    (1.0, -2.0, -2.0, False, False),
    (1.25, -2.0, -2.5, False, False),
    (1.5, -2.0, -3.0, False, False),
    (0.5, 0.0, 0.0, False, False),
    (1.5, 0.0, 0.0, False, False),
]
CLIP = PPOClip(low=0.2, high=0.3)


def token_batch(log_prob, old_log_prob, advantages, mask=None, entropy=None, reference=None):
    mask = torch.ones_like(advantages, dtype=torch.bool) if mask is None else mask
    entropy = torch.zeros_like(advantages) if entropy is None else entropy
    return TokenBatch(log_prob, old_log_prob, advantages, mask, entropy, reference)


def clip_cases():
    """All cases as one row of tokens: the batch, its log-probabilities as a leaf, and the expected columns."""
    ratio, advantage, objective, low, high = (torch.tensor([column]) for column in zip(*CASES, strict=True))
    old = torch.linspace(-3, -0.5, ratio.numel())[None]
    log_prob = (old + ratio.log()).requires_grad_()
    return token_batch(log_prob, old, advantage), log_prob, ratio, objective, low, high


def test_ppo_clip_by_hand_for_every_sign_and_ratio():
    tokens, _, _, objective, low, high = clip_cases()
    clipped = CLIP(tokens)
    torch.testing.assert_close(clipped.objective, objective, rtol=0, atol=CLOSED_FORM)
    assert torch.equal(clipped.low, low)
    assert torch.equal(clipped.high, high)


def test_ppo_clip_removes_the_gradient_of_the_tokens_it_flags_and_of_no_other():
    # the objective is r A where nothing is clipped, and d r / d log pi = r
    tokens, log_prob, ratio, _, low, high = clip_cases()
    (gradient,) = torch.autograd.grad(CLIP(tokens).objective.sum(), log_prob)
    expected = (ratio * tokens.advantages).masked_fill(low | high, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=CLOSED_FORM)


def test_ppo_clip_flags_nothing_outside_the_mask():
    tokens, _, _, _, low, high = clip_cases()
    masked = torch.zeros_like(tokens.mask)
    clipped = CLIP(token_batch(tokens.log_prob, tokens.old_log_prob, tokens.advantages, masked))
    assert low.any()
    assert high.any()
    assert not (clipped.low | clipped.high).any()


@pytest.mark.parametrize("clip", [PPOClip(), CLIP, PPOClip(low=0.0, high=0.0), PPOClip(low=1.0, high=9.0)])
def test_at_ratio_1_the_gradient_is_that_of_reinforce(clip):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 4, 6, generator=generator).requires_grad_()
    chosen = torch.randint(6, (3, 4, 1), generator=generator)
    advantages = torch.randn(3, 4, generator=generator)
    log_prob = logits.log_softmax(-1).gather(-1, chosen)[..., 0]
    (reinforce,) = torch.autograd.grad((advantages * log_prob).sum(), logits, retain_graph=True)
    (clipped,) = torch.autograd.grad(clip(token_batch(log_prob, log_prob.detach(), advantages)).objective.sum(), logits)
    assert reinforce.abs().max() > 0.1
    torch.testing.assert_close(clipped, reinforce, rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize("bounds", [{"low": -0.1}, {"low": 1.1}, {"high": -0.1}, {"low": math.nan}, {"high": math.nan}])
def test_ppo_clip_refuses_ranges_that_are_none(bounds):
    with pytest.raises(ValueError, match="must have 0 <= low <= 1 and high >= 0"):
        PPOClip(**bounds)


def test_entropy_bonus_by_hand_and_minimising_it_raises_entropy():
    entropy = torch.tensor([[0.5, 2.0]], requires_grad=True)
    zeros = torch.zeros(1, 2)
    term = EntropyBonus(0.3)
    value = term(token_batch(zeros, zeros, zeros, entropy=entropy))
    torch.testing.assert_close(value.detach(), torch.tensor([[-0.15, -0.6]]), rtol=0, atol=CLOSED_FORM)
    (gradient,) = torch.autograd.grad(value.sum(), entropy)
    assert gradient.tolist() == [[-0.3, -0.3]]
    assert term.needs == {"entropy_gradient"}


def test_kl_penalty_by_hand():
    # log pi = ln 1/2, log ref = ln 1/4: d = -ln 2, k3 = 1/2 + ln 2 - 1; the other way round k3 = 2 - ln 2 - 1
    half, quarter, zeros = torch.tensor([[0.5]]).log(), torch.tensor([[0.25]]).log(), torch.zeros(1, 1)
    term = KLPenalty(2.0)
    forward = term(token_batch(half, zeros, zeros, reference=quarter))
    backward = term(token_batch(quarter, zeros, zeros, reference=half))
    assert forward.item() == pytest.approx(2 * (math.log(2) - 0.5), abs=CLOSED_FORM)
    assert backward.item() == pytest.approx(2 * (1 - math.log(2)), abs=CLOSED_FORM)
    assert term.needs == {"reference"}


def test_k3_is_unbiased_for_the_kl_from_the_sampling_policy():
    # the expectation over the whole vocabulary, exactly: KL(pi, ref), not KL(ref, pi)
    policy, reference = torch.tensor([0.9, 0.05, 0.03, 0.02]), torch.tensor([0.3, 0.2, 0.4, 0.1])
    expected = (policy * k3(policy.log(), reference.log())).sum().item()
    kl = (policy * (policy / reference).log()).sum().item()
    other_way = (reference * (reference / policy).log()).sum().item()
    assert expected == pytest.approx(kl, abs=CLOSED_FORM)
    assert abs(other_way - kl) > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k3_is_never_negative_and_accurate_near_zero(dtype):
    # k3 = d^2/2 + d^3/6 + ..., so near 0 a form that subtracts numbers of order one is all rounding
    size = torch.logspace(-6, 0, 200, dtype=dtype)
    difference = torch.cat([-size, size])
    found = k3(torch.zeros_like(difference), difference).double()
    d = difference.double()
    exact = sum(d**power / float(math.factorial(power)) for power in range(2, 25))
    rounding = 2 * torch.finfo(dtype).eps * d.abs()  # a unit in the last place of exp(d) - 1, and of the subtraction
    assert (found >= -rounding).all()
    assert ((found - exact).abs() <= rounding).all()


@pytest.mark.parametrize(
    ("weights", "dropped", "of_dropped"),
    [
        ([1.0, 0.0, 1.0], [True, False, True], 8.0),
        ([1.0, 1.0, 1.0], [True, True, True], 15.0),
        ([0.0, 0.0, 0.0], [False, False, False], 1.0),
        ([0.0, 0.5, 2.0], [False, True, True], 10.0),  # weighing a row does not change what it counts for
    ],
)
def test_denominators_by_hand(weights, dropped, of_dropped):
    lengths = torch.tensor([5, 7, 3])
    kept = drop(lengths, torch.tensor(weights))
    assert (kept.rows.tolist(), kept.tokens.tolist()) == (dropped, [of_dropped] * 3)
    every = zero(lengths, torch.tensor(weights))
    assert (every.rows.tolist(), every.tokens.tolist()) == ([True, True, True], [15.0] * 3)


@pytest.mark.parametrize("stage", [CLIP, EntropyBonus(0.3), KLPenalty(0.1)])
def test_token_stages_leave_their_inputs_alone(stage):
    ratio = torch.tensor([[0.5, 1.0, 1.7]])
    tokens = token_batch(ratio.log(), torch.zeros(1, 3), torch.tensor([[-1.0, 0.0, 2.0]]), None, ratio, -ratio)
    before = copy.deepcopy(tokens)
    stage(tokens)
    for name, value in vars(before).items():
        assert value is None or torch.equal(getattr(tokens, name), value), name


@pytest.mark.parametrize("denominator", [drop, zero])
def test_denominators_leave_their_inputs_alone(denominator):
    lengths, weights = torch.tensor([5, 7, 3]), torch.tensor([1.0, 0.0, 2.0])
    denominator(lengths, weights).rows.logical_not_()
    assert lengths.tolist() == [5, 7, 3]
    assert weights.tolist() == [1.0, 0.0, 2.0]
