"""Token weights, against numbers worked by hand."""

import math

import pytest
import torch

from trainer.methods.stages import Band, Observation, TokenBatch
from trainer.methods.weights import REPOR, STEER, ClipCov

CLOSED_FORM = 1e-10


def observed(entropy):
    return Observation(0, entropy, Band(0.0, 9.0))


# means over the four tokens that count: A 0, log pi -2; cov 2, 4, 0, -1
MASK = torch.tensor([[True, True, True], [True, False, False]])
ADVANTAGES = torch.tensor([[2.0, -2.0, 1.0], [-1.0, 50.0, 0.0]])
LOG_PROB = torch.tensor([[-1.0, -4.0, -2.0], [-1.0, -90.0, 0.0]])
NOISE = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 0.0]])


def covariance_batch(noise=NOISE, old=LOG_PROB):
    return TokenBatch(LOG_PROB.requires_grad_(False), old, ADVANTAGES, MASK, 0 * LOG_PROB, noise=noise)


@pytest.mark.parametrize(
    ("options", "removed"),
    [
        ({}, [1]),  # candidates 0 and 1; max(1, floor(2e-4 * 4)) = 1, the one with less noise
        ({"ratio": 0.5}, [0, 1]),
        ({"ratio": 1.0}, [0, 1]),  # no more than there are
        ({"high": 3.0}, [0]),
        ({"low": 3.0}, [1]),
        ({"low": -2.0, "high": 1.0}, [3]),  # candidates 2 and 3
        ({"low": 4.5}, []),
    ],
)
def test_clip_cov_by_hand(options, removed):
    expected = [[float(token not in removed) for token in range(3)], [float(3 not in removed), 0.0, 0.0]]
    assert ClipCov(**options)(covariance_batch()).tolist() == expected


def test_clip_cov_passes_over_tokens_that_the_clip_rule_has_removed():
    halved = LOG_PROB.clone()
    halved[0, 1] += math.log(2)  # ratio 1/2 with A < 0
    tokens = covariance_batch(old=halved)
    assert ClipCov()(tokens)[0].tolist() == [1.0, 0.0, 1.0]
    assert ClipCov(clip_low=0.2)(tokens)[0].tolist() == [0.0, 1.0, 1.0]


def test_clip_cov_chooses_uniformly_and_each_repeat_by_itself():
    # either of two candidates in 4000 repeats: 0.04 is 5 standard errors
    noise = torch.rand(4000, 2, 3, generator=torch.Generator().manual_seed(1))
    tokens = covariance_batch()
    fields = {name: getattr(tokens, name).expand(4000, 2, 3) for name in ("log_prob", "advantages", "mask", "entropy")}
    weights = ClipCov()(TokenBatch(old_log_prob=fields["log_prob"], noise=noise, **fields))
    assert weights.sum((1, 2)).tolist() == [3.0] * 4000
    assert weights[:, 0, 0].mean().item() == pytest.approx(0.5, abs=0.04)
    with pytest.raises(ValueError, match=r"ClipCov\(tokens\) must have tokens.noise"):
        ClipCov()(covariance_batch(noise=None))


# |A r (1 - p)(log p + H)|: 1/2 (1 - log 2), 0.5 * 0.2 |log 0.8 + 0.1|, twice the first
FIRST, SECOND = 0.5 * (1 - math.log(2)), 0.1 * abs(math.log(0.8) + 0.1)


def steer_batch(scale=1.0):
    log_prob = torch.tensor([[0.5, 0.8, 0.5, 0.1]]).log()
    old = log_prob - torch.tensor([[1.0, 0.5, 1.0, 9.0]]).log()
    advantages = scale * torch.tensor([[1.0, -1.0, 2.0, 100.0]])
    return TokenBatch(log_prob, old, advantages, torch.tensor([[True] * 3 + [False]]), torch.tensor([[1, 0.1, 1, 1]]))


@pytest.mark.parametrize(
    ("kind", "scale", "expected"),
    [
        ("linear", 1.0, [1.2 - 0.4 * (FIRST - SECOND) / (2 * FIRST - SECOND), 1.2, 0.8]),
        ("linear", 0.0, [1.0, 1.0, 1.0]),
        ("exponential", 1.0, [0.8**0.5, 0.8 ** (SECOND / (2 * FIRST)), 0.8]),
        ("exponential", 0.01, [0.8 ** (FIRST / 2), 0.8 ** (SECOND / 2), 0.8**FIRST]),  # the largest is below 0.02
    ],
)
def test_steer_by_hand(kind, scale, expected):
    weights = STEER(kind)(steer_batch(scale))
    assert weights[0].tolist() == pytest.approx([*expected, 0.0], abs=CLOSED_FORM)


def test_repo_r_by_hand_is_the_two_sided_rule_of_the_advantage():
    log_prob = torch.tensor([[-2.0, -2.0, -2.0, -30.0, -30.0]], requires_grad=True)
    advantages = torch.tensor([[1.5, -0.5, 0.0, 1.0, -1.0]])
    tokens = TokenBatch(log_prob, log_prob.detach(), advantages, advantages < 9, 0 * advantages)
    # 1 + 0.2, 1 - 0.2, 1, and -30 counts as -20: 1 + 2, max(0, 1 - 2)
    weights = REPOR().decide({"zeta": 0.1}, tokens)
    assert weights[0].tolist() == pytest.approx([1.2, 0.8, 1.0, 3.0, 0.0], abs=CLOSED_FORM)
    assert not weights.requires_grad
    for zeta in (0.1, -0.3):
        floored = log_prob.detach().clamp(min=-20)
        up, down = (advantages * (1 - sign * zeta * floored) for sign in (1, -1))
        expected = torch.where(advantages > 0, up.clamp(min=0), down.clamp(max=0))
        by_weight = REPOR().decide({"zeta": zeta}, tokens) * advantages
        torch.testing.assert_close(by_weight, expected, rtol=0, atol=CLOSED_FORM)


def test_repo_r_doubles_zeta_towards_the_target_and_halves_it_away_from_it():
    cases = [
        # zeta, entropy about the target 0.5, zeta afterwards; sizes within 1e-4 .. 0.05
        (1e-3, 0.4, 2e-3),
        (0.04, 0.4, 0.05),
        (-1e-3, 0.4, -5e-4),
        (-1.5e-4, 0.4, 1e-4),
        (1e-3, 0.6, 5e-4),
        (1.5e-4, 0.6, -1e-4),
        (-0.04, 0.6, -0.05),
        (-1e-3, 0.6, -2e-3),
        (1e-3, 0.5, 1e-3),
    ]
    zeta, entropy, after = (torch.tensor(column) for column in zip(*cases, strict=True))
    state, _ = REPOR(target=0.5).step({"zeta": zeta, "target": 0.5, "observed": 1}, observed(entropy))
    torch.testing.assert_close(state["zeta"], after, rtol=0, atol=1e-15)


def test_repo_r_takes_the_first_observed_entropy_for_its_target():
    rule = REPOR()
    first, _ = rule.step(rule.start(), observed(0.7))
    second, info = rule.step(first, observed(0.6))
    assert [float(state["zeta"]) for state in (rule.start(), first, second)] == [1e-3, 1e-3, 2e-3]
    assert (float(second["target"]), float(info["zeta"])) == (0.7, 2e-3)


@pytest.mark.parametrize(
    ("weight", "options"),
    [
        (ClipCov, {"ratio": -0.1}),
        (ClipCov, {"low": 6.0}),
        (ClipCov, {"clip_low": 1.1}),
        (STEER, {"kind": "square"}),
        (STEER, {"least": 0.0}),
        (STEER, {"scale": 0.0}),
        (REPOR, {"initial": 0.0}),
        (REPOR, {"floor": 1.0}),
    ],
)
def test_token_weights_refuse_options_out_of_range(weight, options):
    with pytest.raises(ValueError, match=r"\(.*=.*\) must have"):
        weight(**options)
