"""Clip rules, with and without memory, against numbers worked by hand."""

import math

import pytest
import torch

from trainer.methods.clip_schedules import ADAPO, FlexibleClip
from trainer.methods.clips import GSPO, DualClip, PPOClip, ProbabilityBounds, unclipped
from trainer.methods.stages import Band, Observation, TokenBatch

CLOSED_FORM = 1e-10


def batch(ratio, advantages, old=0.5, mask=None):
    """Tokens `[B, T]` of these ratios, with the log-probability as a leaf."""
    ratio, advantages = torch.tensor(ratio), torch.tensor(advantages)
    old = torch.as_tensor(old).log().expand_as(ratio)
    mask = torch.ones_like(ratio, dtype=torch.bool) if mask is None else torch.tensor(mask)
    return TokenBatch((old + ratio.log()).requires_grad_(), old, advantages, mask, torch.zeros_like(ratio))


def gradient(rule, tokens):
    return torch.autograd.grad(rule(tokens).objective.sum(), tokens.log_prob)[0]


def observed(entropy, progress=0.0):
    return Observation(0, entropy, Band(0.0, 9.0), progress=progress)


def check(clipped, objective, low, high):
    torch.testing.assert_close(clipped.objective.detach(), torch.tensor(objective), rtol=0, atol=CLOSED_FORM)
    assert clipped.low.int().tolist() == low
    assert clipped.high.int().tolist() == high


# ranges 0.8 .. 1.3, and 2 A as the least objective where A < 0
RATIO, ADVANTAGE = [[3.0, 1.5, 0.5, 3.0, 0.5]], [[-2.0, -2.0, -2.0, 2.0, 2.0]]


def test_dual_clip_by_hand_removes_the_gradient_of_the_tokens_it_flags():
    tokens, rule = batch(RATIO, ADVANTAGE), DualClip(0.2, 0.3, bound=2.0)
    check(rule(tokens), [[-4.0, -3.0, -1.6, 2.6, 1.0]], [[0, 0, 1, 0, 0]], [[1, 0, 0, 1, 0]])
    assert gradient(rule, tokens)[0].tolist() == pytest.approx([0, -3, 0, 0, 1], abs=CLOSED_FORM)


def test_dual_clip_without_a_bound_is_ppo_and_unclipped_is_ppo_with_open_ranges():
    tokens = batch(RATIO, ADVANTAGE)
    without_bound, ppo = DualClip(0.2, 0.3, bound=math.inf)(tokens), PPOClip(0.2, 0.3)(tokens)
    assert torch.equal(without_bound.objective, ppo.objective)
    assert torch.equal(without_bound.high, ppo.high)
    check(unclipped(tokens), [[-6.0, -3.0, -1.0, 6.0, 1.0]], [[0] * 5], [[0] * 5])
    assert torch.equal(gradient(unclipped, tokens), gradient(PPOClip(1.0, 9.0), tokens))


def test_gspo_by_hand():
    # mean log ratio 0.1 (the third token does not count): s = e^0.1 > 1.05; mean -0.3: s = e^-0.3 < 0.9; none: s = 1
    ratio = torch.tensor([[0.3, -0.1, 5.0], [-0.2, -0.4, -0.3], [1.0, 1.0, 1.0]]).exp().tolist()
    mask = [[True, True, False], [True] * 3, [False] * 3]
    tokens = batch(ratio, [[2.0, 2.0, 0.0], [1.0, -1.0, 0.0], [0.0] * 3], mask=mask)
    rule, s = GSPO(low=0.1, high=0.05), math.exp(-0.3)
    objective = [[2.1, 2.1, 0.0], [s, -0.9, 0.0], [0.0] * 3]
    check(rule(tokens), objective, [[0] * 3, [0, 1, 0], [0] * 3], [[1, 1, 0], [0] * 3, [0] * 3])
    # each token has its own gradient, s A, not the mean over the sequence's
    assert gradient(rule, tokens).flatten().tolist() == pytest.approx([0, 0, 0, s, 0, 0, 0, 0, 0], abs=CLOSED_FORM)
    single = batch([[1.5], [0.5]], [[1.0], [-1.0]])
    assert torch.equal(GSPO(0.2, 0.3)(single).objective, PPOClip(0.2, 0.3)(single).objective)


def test_probability_bounds_by_hand():
    # p = 0.5: upper 0.4 - 0.2/2 = 0.3, lower 0.3 - 0.1/2 = 0.25; p = 0.25: upper 0.35, lower 0.275
    tokens = batch([[1.5, 0.5, 1.2, 0.5]], [[1.0, -1.0, 1.0, 1.0]])
    rule = ProbabilityBounds(alpha_l=-0.1, beta_l=0.3, probability="old")
    check(rule(tokens), [[1.3, -0.75, 1.2, 0.5]], [[0, 1, 0, 0]], [[1, 0, 0, 0]])
    rare = batch([[1.5, 0.5]], [[1.0, -1.0]], old=0.25)
    check(rule(rare), [[1.35, -0.725]], [[0, 1]], [[1, 0]])
    # of the current p = r / 2: r = 1 + 0.4 - 0.2 r/2 at 1.4/1.1, and r = 1 - 0.3 + 0.1 r/2 at 0.7/0.95
    current = ProbabilityBounds(alpha_l=-0.1, beta_l=0.3, probability="current")(tokens)
    check(current, [[1.4 / 1.1, -0.7 / 0.95, 1.2, 0.5]], [[0, 1, 0, 0]], [[1, 0, 0, 0]])
    for probability in ("old", "current"):
        flat = ProbabilityBounds(0.0, 0.3, 0.0, 0.2, probability)(tokens)
        torch.testing.assert_close(flat.objective, PPOClip(0.2, 0.3)(tokens).objective, rtol=0, atol=CLOSED_FORM)


def test_adapo_moves_its_upper_range_towards_the_target():
    rule = ADAPO(target=0.5, initial=0.28, rate=0.05, least=0.2, most=0.4)
    state, info = rule.step(rule.start(), observed(torch.tensor([0.3, 0.5, 0.9])))
    assert state["high"].tolist() == pytest.approx([0.33, 0.28, 0.23], abs=CLOSED_FORM)
    assert torch.equal(info["clip_range_high"], state["high"])
    ratio = torch.tensor([1.3]).log().expand(3, 1, 1)
    tokens = TokenBatch(ratio, 0 * ratio, 1 + 0 * ratio, ratio > 0, 0 * ratio)
    assert rule.decide(state, tokens).objective.flatten().tolist() == pytest.approx([1.3, 1.28, 1.23], abs=CLOSED_FORM)
    for _ in range(2):
        state, _ = rule.step(state, observed(torch.tensor([0.3, 0.5, 0.9])))
    assert state["high"].tolist() == pytest.approx([0.4, 0.28, 0.2], abs=CLOSED_FORM)


@pytest.mark.parametrize(
    ("schedule", "done", "shares"),
    [
        *(
            ("ID", done, shares)
            for done, shares in ((0.0, (0, 1)), (0.125, (0, 0.75)), (0.5, (1, 0)), (0.75, (0.5, 0)))
        ),
        *(("DID", done, shares) for done, shares in ((0.0, (0, 0)), (0.125, (0, 0.25)), (0.5, (1, 1)), (1.0, (0, 1)))),
    ],
)
def test_flexible_clip_mixes_its_ranges_by_what_is_done_of_the_run(schedule, done, shares):
    rule = FlexibleClip(schedule, low=0.1, high=0.2, alpha_l=-0.1, beta_l=0.3, probability="old")
    state, info = rule.step(rule.start(), observed(0.5, progress=done))
    assert (info["flexible_low_share"], info["flexible_high_share"]) == pytest.approx(shares, abs=CLOSED_FORM)
    # p = 0.5: lower between 0.1 and 0.25, upper between 0.2 and 0.3
    low, high = 0.1 + 0.15 * shares[0], 0.2 + 0.1 * shares[1]
    check(rule.decide(state, batch([[0.5, 1.5]], [[-1.0, 1.0]])), [[low - 1, 1 + high]], [[1, 0]], [[0, 1]])


def test_flexible_clip_oscillates_between_its_two_bounds():
    # H_init 1: H_min 0.2, upper bounds 0.92, 0.84, 0.76, 0.68, 0.6; H_init 2: 0.4 and 1.84, 1.68, 1.52, 1.36, 1.2
    rule, raising = FlexibleClip("OD"), []
    state = rule.start()
    assert rule.shares(state) == (1.0, 0.0)
    for step, entropy in enumerate(([1.0, 2.0], [0.5, 0.5], [0.2, 0.5], [0.65, 0.3], [0.65, 0.65])):
        state, _ = rule.step(state, observed(torch.tensor(entropy), progress=(step + 1) / 10))
        raising.append(state["raising"].tolist())
    assert raising == [[0, 0], [0, 0], [1, 0], [1, 1], [0, 1]]
    low, high = rule.shares(state)
    assert (low.tolist(), high.tolist()) == ([1, 0], [0, 1])


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (DualClip, {"bound": 1.0}),
        (DualClip, {"low": -0.1}),
        (GSPO, {"low": 1.5}),
        (ProbabilityBounds, {"alpha_u": 0.1}),
        (ProbabilityBounds, {"alpha_l": -0.5}),
        (ProbabilityBounds, {"beta_l": 1.0}),
        (ProbabilityBounds, {"probability": "new"}),
        (ADAPO, {"target": 0.5, "initial": 0.5}),
        (ADAPO, {"target": 0.5, "rate": math.nan}),
        (FlexibleClip, {"schedule": "DI"}),
        (FlexibleClip, {"floor": 1.1}),
        (FlexibleClip, {"alpha_u": 0.1}),
    ],
)
def test_clip_rules_refuse_options_that_make_no_range(rule, options):
    with pytest.raises(ValueError, match=r"\(.*=.*\) must have"):
        rule(**options)
