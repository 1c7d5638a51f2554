"""Entropy of a softmax policy, its gradient (E2) and its Hessian (E3), by hand and against autograd."""

import math

import pytest
import torch

from entropy_theory import entropy, policy_of, second_order_change, token_statistics

CLOSED_FORM = 1e-10  # closed form against autograd, or against numbers worked by hand to 12 digits
DIFFERENCE = 1e-6  # against central differences

# p = (1/2, 1/3, 1/6): three different arms, so that a flipped sign or a swapped arm shows.
#   H   = ln2/2 + ln3/3 + ln6/6                  = 1.0114042647074
#   L   = (H - ln2, H - ln3, H - ln6)            = (0.3182570841474, -0.0872080239608, -0.7803552045207)
#   S   = (L1/2, L2/3, L3/6), whose sum is zero  = (0.1591285420737, -0.0290693413203, -0.1300592007535)
#   N   = S1/2 + S2/3 + S3/6                     = 0.0481979571379
#   n_2 = 1/4 + 1/9 + 1/36                       = 7/18
PROBS = [1 / 2, 1 / 3, 1 / 6]
ENTROPY = 1.0114042647074
CENTRED = [0.3182570841474, -0.0872080239608, -0.7803552045207]
DISCRIMINATOR = [0.1591285420737, -0.0290693413203, -0.1300592007535]
MEAN_DISCRIMINATOR = 0.0481979571379


def hand_logits():
    return torch.tensor(PROBS).log() + 0.7  # the shift changes nothing, and p is no longer exp(z)


def random_logits(arms, scale, seed):
    return scale * torch.randn(arms, generator=torch.Generator().manual_seed(seed))


RANDOM_POLICIES = [(2, 1.0, 0), (3, 3.0, 1), (5, 0.3, 2), (8, 8.0, 3), (13, 2.0, 4)]


def printed_hessian(logits):
    """d2H/dz_i dz_j = p_i p_j (1 + L_i + L_j) - [i = j] p_i (1 + L_i), written out from p alone."""
    p = logits.exp() / logits.exp().sum()
    centred = p.log() - (p * p.log()).sum()
    return torch.outer(p, p) * (1 + centred[:, None] + centred) - torch.diag(p * (1 + centred))


@pytest.mark.parametrize("arms", [1, 2, 3, 7, 1000])
def test_uniform_policy_has_the_log_of_its_arms(arms):
    assert entropy(torch.full((arms,), 3.25)).item() == pytest.approx(math.log(arms), abs=CLOSED_FORM)


@pytest.mark.parametrize("gap", [-3.0, -math.log(3), 0.5, 4.0])
def test_two_arms_have_the_binary_entropy(gap):
    q = 1 / (1 + math.exp(-gap))
    by_hand = -q * math.log(q) - (1 - q) * math.log(1 - q)
    assert entropy(torch.tensor([gap, 0.0])).item() == pytest.approx(by_hand, abs=CLOSED_FORM)


def test_one_to_three_odds_by_hand():
    # p = (1/4, 3/4): H = 2 ln2 - (3/4) ln3 = 0.5623351446
    assert entropy(torch.tensor([0.0, math.log(3)])).item() == pytest.approx(0.5623351446188, abs=CLOSED_FORM)


def test_three_arms_by_hand():
    policy = policy_of(hand_logits())
    assert policy.probs.tolist() == pytest.approx(PROBS, abs=CLOSED_FORM)
    assert policy.entropy.item() == pytest.approx(ENTROPY, abs=CLOSED_FORM)
    assert policy.centred.tolist() == pytest.approx(CENTRED, abs=CLOSED_FORM)
    assert policy.discriminator.tolist() == pytest.approx(DISCRIMINATOR, abs=CLOSED_FORM)
    assert entropy(hand_logits()).item() == pytest.approx(ENTROPY, abs=CLOSED_FORM)


@pytest.mark.parametrize("token", [0, 1, 2])
def test_token_statistics_by_hand(token):
    statistics = token_statistics(hand_logits(), torch.tensor(token))
    assert statistics.log_prob.item() == pytest.approx(math.log(PROBS[token]), abs=CLOSED_FORM)
    assert statistics.entropy.item() == pytest.approx(ENTROPY, abs=CLOSED_FORM)
    assert statistics.collision.item() == pytest.approx(7 / 18, abs=CLOSED_FORM)
    assert statistics.discriminator.item() == pytest.approx(DISCRIMINATOR[token], abs=CLOSED_FORM)
    assert statistics.mean_discriminator.item() == pytest.approx(MEAN_DISCRIMINATOR, abs=CLOSED_FORM)


def test_batched_statistics_are_those_of_each_row():
    logits = torch.stack([hand_logits(), hand_logits().flip(0), 2 * hand_logits()])
    tokens = torch.tensor([2, 0, 1])
    batched = token_statistics(logits, tokens)
    for row, token in enumerate(tokens):
        alone = token_statistics(logits[row], token)
        for name, value in vars(alone).items():
            assert getattr(batched, name)[row].item() == pytest.approx(value.item(), abs=CLOSED_FORM), name


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_gradient_is_minus_the_discriminator(arms, scale, seed):
    logits = random_logits(arms, scale, seed).requires_grad_()
    (gradient,) = torch.autograd.grad(entropy(logits), logits)
    policy = policy_of(logits.detach())
    torch.testing.assert_close(gradient, -policy.discriminator, rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_printed_hessian_is_that_of_autograd(arms, scale, seed):
    logits = random_logits(arms, scale, seed)
    by_autograd = torch.autograd.functional.hessian(entropy, logits)
    torch.testing.assert_close(by_autograd, printed_hessian(logits), rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_second_order_is_half_the_printed_quadratic_form(arms, scale, seed):
    logits, delta = random_logits(arms, scale, seed), random_logits(arms, 1.0, 100 + seed)
    half_form = 0.5 * delta @ printed_hessian(logits) @ delta
    torch.testing.assert_close(second_order_change(logits, delta), half_form, rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_gradient_and_hessian_are_central_differences_of_entropy(arms, scale, seed):
    logits = random_logits(arms, scale, seed)
    unit = torch.eye(arms)
    discriminator = policy_of(logits).discriminator
    hessian = printed_hessian(logits)
    for i in range(arms):
        h = 1e-5  # truncation and rounding both near 1e-10
        slope = (entropy(logits + h * unit[i]) - entropy(logits - h * unit[i])) / (2 * h)
        assert slope.item() == pytest.approx(-discriminator[i].item(), abs=DIFFERENCE)
        h = 3e-4  # truncation and rounding both near 1e-8
        bend = (entropy(logits + h * unit[i]) - 2 * entropy(logits) + entropy(logits - h * unit[i])) / h**2
        assert bend.item() == pytest.approx(hessian[i, i].item(), abs=DIFFERENCE)


def test_mean_and_centre_weigh_by_the_policy():
    policy = policy_of(hand_logits())
    values = torch.tensor([6.0, -3.0, 12.0])  # E_p = 3 - 1 + 2 = 4
    assert policy.mean(values).item() == pytest.approx(4.0, abs=CLOSED_FORM)
    assert policy.centre(values).tolist() == pytest.approx([2.0, -7.0, 8.0], abs=CLOSED_FORM)
