"""Theorems 1 and 2 as printed: equal to E2 and E4, by hand for two arms, and where their conditions say nothing."""

import math

import mpmath
import pytest
import torch

from entropy_theory import first_order_change, sampled_token_delta, theorem1, theorem2, token_statistics

CLOSED_FORM = 1e-10
RANDOM_POLICIES = [(2, 1.0, 0), (3, 3.0, 1), (5, 0.3, 2), (8, 8.0, 3), (50, 2.0, 4)]
LN2, LN3 = math.log(2), math.log(3)


def close(found, expected, tolerance=CLOSED_FORM):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def every_token(arms, scale, seed):
    logits = scale * torch.randn(arms, generator=torch.Generator().manual_seed(seed))
    return logits.expand(arms, arms), torch.arange(arms)


@pytest.mark.parametrize("step", [0.3, -0.3])
@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_the_change_is_the_first_order_and_that_of_a_sampled_token(arms, scale, seed, step):
    logits, token = every_token(arms, scale, seed)
    delta = sampled_token_delta(logits, token, step)
    found, known = theorem1(logits, token, delta), token_statistics(logits, token)
    close(found.change, first_order_change(logits, delta))
    close(found.change, -step * (known.discriminator - known.mean_discriminator))
    probs = logits.softmax(-1)
    p_k = probs.gather(-1, token[:, None])
    printed = step * probs * (torch.eye(arms) - probs - p_k + known.collision[:, None])
    close(found.delta_p, printed)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_weights_baseline_and_condition_are_those_of_the_theorem(arms, scale, seed):
    logits, token = every_token(arms, scale, seed)
    delta = torch.randn(arms, arms, generator=torch.Generator().manual_seed(seed + 50))  # any step, not only E4's
    found = theorem1(logits, token, delta)
    log_p = logits.log_softmax(-1)
    log_p_k, delta_p_k = log_p.diagonal(), found.delta_p.diagonal()
    close(found.delta_p.sum(-1), torch.zeros(arms))
    size = found.weights.abs().sum(-1)  # weights of both signs can be large and cancel
    assert bool(((found.weights.sum(-1) - 1).abs() <= CLOSED_FORM * size).all())
    by_hand = (found.weights * log_p).sum(-1)
    assert bool(((found.output_space_baseline - by_hand).abs() <= CLOSED_FORM * size * log_p.abs().amax()).all())
    close(found.change, -delta_p_k * (log_p_k - found.output_space_baseline))
    assert torch.equal(found.condition, log_p_k > found.output_space_baseline)
    assert torch.equal(found.weights.diagonal(), torch.zeros(arms))


def test_some_weights_are_negative():
    logits, token = torch.tensor([0.0, 3.0, 0.0]), torch.tensor(0)
    assert bool((theorem1(logits, token, torch.tensor([1.0, 1.1, 0.0])).weights < 0).any())


def test_two_arms_by_hand():
    # p = (3/4, 1/4), delta = (1/10, 0): delta p_1 = 3/160, the other arm has all the weight, so b = -2 ln2,
    # change = -(3/160) (ln(3/4) + 2 ln2) = -(3/160) ln3 and the claimed probability is 1 - 1/4.
    found = theorem1(torch.tensor([LN3, 0.0]), torch.tensor(0), torch.tensor([0.1, 0.0]))
    close(found.weights, torch.tensor([0.0, 1.0]))
    close(found.delta_p, torch.tensor([3 / 160, -3 / 160]))
    values = torch.stack([found.output_space_baseline, found.change, found.claimed_probability])
    close(values, torch.tensor([-2 * LN2, -3 / 160 * LN3, 0.75]))
    assert bool(found.condition)
    assert not bool(theorem1(torch.tensor([LN3, 0.0]), torch.tensor(1), torch.tensor([0.0, 0.1])).condition)


@pytest.mark.parametrize("arms", [2, 3, 10])
@pytest.mark.parametrize("raised", ["own", "sampled"])
def test_a_nearly_certain_token_keeps_its_digits(arms, raised):
    logits = torch.zeros(arms)
    logits[0] = math.log(1e12)
    logits[1] -= 0.5
    token = torch.tensor(0)
    delta = sampled_token_delta(logits, token, 0.1) if raised == "sampled" else torch.arange(arms) * -0.1 + 0.1
    found = theorem1(logits, token, delta)
    with mpmath.workdps(60):
        weights = [mpmath.exp(z) for z in logits.tolist()]
        p = [w / mpmath.fsum(weights) for w in weights]
        d = [mpmath.mpf(x) for x in delta.tolist()]
        delta_p = [q * (x - mpmath.fdot(p, d)) for q, x in zip(p, d, strict=True)]
        change = -mpmath.fdot(delta_p, [mpmath.log(q) for q in p])
        baseline = mpmath.log(p[0]) + change / delta_p[0]
    assert found.change.item() == pytest.approx(float(change), rel=CLOSED_FORM)
    assert found.delta_p.tolist() == pytest.approx([float(x) for x in delta_p], rel=CLOSED_FORM)
    assert found.output_space_baseline.item() == pytest.approx(float(baseline), rel=CLOSED_FORM)
    assert found.weights.tolist() == pytest.approx([0.0, *(float(-x / delta_p[0]) for x in delta_p[1:])], rel=1e-9)
    assert bool(found.condition)


def test_a_token_that_does_not_move_has_no_baseline_but_a_change():
    # p uniform over 3 and delta = (0, 1, -1): delta p = (0, 1/3, -1/3). Then with p = (1/2, 1/3, 1/6) and
    # delta = (0, 1, -2), E_p delta = 0 too: change = -(1/3 L_2 - 2/6 L_3) = -(1/3) ln 2.
    found = theorem1(torch.tensor([LN3, LN2, 0.0]), torch.tensor(0), torch.tensor([0.0, 1.0, -2.0]))
    uniform = theorem1(torch.zeros(3), torch.tensor(0), torch.tensor([0.0, 1.0, -1.0]))
    assert uniform.delta_p[0].item() == 0
    assert bool(uniform.output_space_baseline.isnan())
    assert bool(uniform.weights.isnan().all())
    close(uniform.change, torch.tensor(0.0))
    assert not bool(uniform.condition)
    close(found.change, torch.tensor(-LN2 / 3))


def test_masked_arms_take_no_part():
    logits, delta = torch.tensor([1.0, -math.inf, 0.2, -0.4]), torch.tensor([0.3, math.nan, -0.1, 0.5])
    kept = torch.tensor([0, 2, 3])
    found, alone = theorem1(logits, torch.tensor(0), delta), theorem1(logits[kept], torch.tensor(0), delta[kept])
    for name in ("weights", "delta_p"):
        close(getattr(found, name)[kept], getattr(alone, name))
        assert getattr(found, name)[1].item() == 0
    for name in ("output_space_baseline", "change", "claimed_probability"):
        close(getattr(found, name), getattr(alone, name))


def test_a_response_adds_its_tokens():
    generator = torch.Generator().manual_seed(7)
    logits, delta = torch.randn(6, 4, 5, generator=generator), torch.randn(6, 4, 5, generator=generator)
    tokens = torch.randint(5, (6, 4), generator=generator)
    found = theorem2(logits, tokens, delta)
    log_p = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    close(found.change, first_order_change(logits, delta).sum(-1))
    close(found.log_prob, log_p.sum(-1))
    close(found.change, -found.effective_delta_p * (found.log_prob - found.sequence_baseline))
    close(found.token_condition_share, (log_p > found.tokens.output_space_baseline).double().mean(-1))
    gap = log_p - found.tokens.output_space_baseline
    assert torch.equal(found.valid, (gap > 0).all(-1) | (gap < 0).all(-1))
    assert torch.equal(found.condition, found.log_prob >= found.sequence_baseline)
    assert torch.equal(found.effective_sign, found.effective_delta_p.sign())


def test_every_token_can_rise_while_the_effective_change_is_negative():
    # Two arms a token: gap = log odds. p = 3/4 with delta p = 1/100 (gap ln3), p = 1/3 with delta p = 1/10 (gap -ln2):
    # the effective delta p is (ln3 / 100 - ln2 / 10) / (ln3 - ln2) < 0, and entropy rises by ln2 / 10 - ln3 / 100
    # although log p_y > b_y and every token was raised: the theorem's conclusion is false here.
    logits, tokens = torch.tensor([[LN3, 0.0], [0.0, LN2]]), torch.tensor([0, 0])
    found = theorem2(logits, tokens, torch.tensor([[16 / 300, 0.0], [0.45, 0.0]]))
    close(found.tokens.delta_p[:, 0], torch.tensor([0.01, 0.1]))
    close(found.effective_delta_p, torch.tensor((LN3 / 100 - LN2 / 10) / (LN3 - LN2)))
    close(found.change, torch.tensor(LN2 / 10 - LN3 / 100))
    assert bool(found.condition)
    assert not bool(found.valid)
    assert (found.effective_sign.item(), found.token_condition_share.item()) == (-1.0, 0.5)


def test_tokens_that_agree_are_valid():
    logits, tokens = torch.tensor([[LN3, 0.0], [LN2, 0.0]]), torch.tensor([0, 0])
    found = theorem2(logits, tokens, torch.tensor([[0.1, 0.0], [0.2, 0.0]]))
    assert bool(found.valid)
    assert bool(found.condition)
    assert 0.1 * 3 / 16 < found.effective_delta_p.item() < 0.2 * 2 / 9  # a mean of the tokens' delta p
    assert found.change.item() < 0


def test_a_token_that_does_not_move_leaves_the_response_without_a_baseline():
    found = theorem2(torch.zeros(2, 2), torch.tensor([0, 0]), torch.tensor([[0.0, 0.0], [0.1, 0.0]]))
    assert bool(found.effective_delta_p.isnan())
    assert not bool(found.valid)
    assert not bool(found.condition)
    assert found.change.item() == 0
