"""The entropy change of a step: by hand, against the Hessian, and for a sampled token (E3, E4, E5)."""

import math

import pytest
import torch

from entropy_theory import (
    entropy,
    entropy_change,
    first_order_change,
    sampled_token_delta,
    second_order_change,
    token_statistics,
)

CLOSED_FORM = 1e-10

# p = (1/2, 1/3, 1/6), delta = (1, 0, 2); H, L and S of this policy are worked in test_theory_entropy.py.
#   first    -(S1 + 2 S3) = -(0.1591285420737 - 0.2601184015069) = +0.1009898594332: the rare arm rises most
#   E_p      1/2 + 2/6 = 5/6, so delta is (1/6, -5/6, 7/6) about its mean
#   second   -1/2 [ (1/2)(1/36)(1 + L1) + (1/3)(25/36)(1 + L2) + (1/6)(49/36)(1 + L3) ] = -0.1397151968354
#   exact    H of weights (e/2, 1/3, e^2/6) less 1.0114042647074 = -0.0435544630769: the step is long
PROBS = [1 / 2, 1 / 3, 1 / 6]
DELTA = [1.0, 0.0, 2.0]
FIRST, SECOND, EXACT = 0.1009898594332, -0.1397151968354, -0.0435544630769
INFLUENCE = [0.1109305849358, -0.0772672984581, -0.1782571578913]  # S_k - N


def random_pair(arms, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(arms, generator=generator), torch.randn(arms, generator=generator)


RANDOM_POLICIES = [(2, 1.0, 10), (3, 3.0, 11), (5, 0.3, 12), (8, 8.0, 13), (13, 2.0, 14)]


def every_token(logits):
    """The row repeated once for each arm, with each arm sampled once."""
    arms = logits.shape[-1]
    return logits.expand(arms, arms), torch.arange(arms)


@pytest.mark.parametrize(
    ("function", "by_hand"), [(first_order_change, FIRST), (second_order_change, SECOND), (entropy_change, EXACT)]
)
def test_three_arms_by_hand(function, by_hand):
    logits, delta = torch.tensor(PROBS).log() - 2.0, torch.tensor(DELTA)
    assert function(logits, delta).item() == pytest.approx(by_hand, abs=CLOSED_FORM)


def test_at_the_uniform_policy_only_the_variance_counts():
    # L = 0: no first order; delta = (3, -1, 0, 2) has mean 1 and variance (4 + 4 + 1 + 1) / 4 = 5/2
    logits, delta = torch.zeros(4), torch.tensor([3.0, -1.0, 0.0, 2.0])
    assert first_order_change(logits, delta).item() == pytest.approx(0.0, abs=CLOSED_FORM)
    assert second_order_change(logits, delta).item() == pytest.approx(-1.25, abs=CLOSED_FORM)


def test_exact_change_is_the_difference_of_two_known_entropies():
    # from p = (1/2, 1/2), ln 2, to p = (1/4, 3/4), 2 ln2 - (3/4) ln3
    change = entropy_change(torch.tensor([5.0, 5.0]), torch.tensor([0.0, math.log(3)]))
    assert change.item() == pytest.approx(math.log(2) - 0.75 * math.log(3), abs=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_orders_are_those_of_autograd(arms, scale, seed):
    logits, delta = random_pair(arms, scale, seed)
    gradient = torch.autograd.functional.jacobian(entropy, logits)
    hessian = torch.autograd.functional.hessian(entropy, logits)
    torch.testing.assert_close(first_order_change(logits, delta), gradient @ delta, rtol=0, atol=CLOSED_FORM)
    by_autograd = 0.5 * delta @ hessian @ delta
    torch.testing.assert_close(second_order_change(logits, delta), by_autograd, rtol=0, atol=CLOSED_FORM)


def test_sampled_token_delta_by_hand():
    # 0.6 (e_3 - p) with p = (1/2, 1/3, 1/6)
    delta = sampled_token_delta(torch.tensor(PROBS).log() + 1.5, torch.tensor(2), 0.6)
    assert delta.tolist() == pytest.approx([-0.3, -0.2, 0.5], abs=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
@pytest.mark.parametrize("step", [0.35, -1.2])
def test_sampled_token_delta_is_the_gradient_of_the_log_probability(arms, scale, seed, step):
    logits, tokens = every_token(random_pair(arms, scale, seed)[0])
    logits = logits.clone().requires_grad_()
    chosen = logits.log_softmax(-1).gather(-1, tokens[:, None])
    (gradient,) = torch.autograd.grad(step * chosen.sum(), logits)
    delta = sampled_token_delta(logits.detach(), tokens, step)
    torch.testing.assert_close(delta, gradient, rtol=0, atol=CLOSED_FORM)
    torch.testing.assert_close(delta.sum(-1), torch.zeros(arms), rtol=0, atol=CLOSED_FORM)


def test_step_may_differ_by_context():
    logits = random_pair(6, 1.0, 20)[0].view(1, 1, 6).repeat(2, 3, 1)
    tokens = torch.arange(6).view(2, 3)
    steps = torch.tensor([[0.1, -0.2, 0.3], [0.0, 1.5, -2.0]])
    batched = sampled_token_delta(logits, tokens, steps)
    for i in range(2):
        for j in range(3):
            alone = sampled_token_delta(logits[i, j], tokens[i, j], steps[i, j].item())
            torch.testing.assert_close(batched[i, j], alone, rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize("token", [0, 1, 2])
def test_sampled_token_changes_entropy_by_minus_its_influence_by_hand(token):
    logits = torch.tensor(PROBS).log()
    change = first_order_change(logits, sampled_token_delta(logits, torch.tensor(token), 0.5))
    assert change.item() == pytest.approx(-0.5 * INFLUENCE[token], abs=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
@pytest.mark.parametrize("step", [0.35, -1.2])
def test_sampled_token_forms_agree(arms, scale, seed, step):
    logits, tokens = every_token(random_pair(arms, scale, seed)[0])
    directly = first_order_change(logits, sampled_token_delta(logits, tokens, step))

    statistics = token_statistics(logits, tokens)  # E4
    by_influence = -step * (statistics.discriminator - statistics.mean_discriminator)
    torch.testing.assert_close(directly, by_influence, rtol=0, atol=CLOSED_FORM)

    p = logits.softmax(-1)  # E5: row k holds dp_i for the sampled token k
    collision = p.square().sum(-1, keepdim=True)
    dp = step * p * (torch.eye(arms) - p - p.diagonal()[:, None] + collision)
    by_probabilities = -(dp * p.log()).sum(-1)
    torch.testing.assert_close(directly, by_probabilities, rtol=0, atol=CLOSED_FORM)
    torch.testing.assert_close(statistics.collision, collision[:, 0], rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize(("arms", "scale", "seed"), RANDOM_POLICIES)
def test_sampled_token_form_of_theorem_1_agrees(arms, scale, seed):
    # E5 as printed: dH = -dp_k (l_k - b_k), b_k = sum over i != k of w_i l_i, w_i = -dp_i / dp_k
    logits, tokens = every_token(random_pair(arms, scale, seed)[0])
    p, step = logits.softmax(-1), 0.35
    collision = p.square().sum(-1, keepdim=True)
    others = 1 - torch.eye(arms)
    dp_sampled = step * p.diagonal() * (1 - 2 * p.diagonal() + collision[:, 0])
    weights = -step * p * (collision - p - p.diagonal()[:, None]) * others / dp_sampled[:, None]
    baseline = (weights * p.log()).sum(-1)
    theorem = -dp_sampled * (p.log().diagonal() - baseline)
    directly = first_order_change(logits, sampled_token_delta(logits, tokens, step))
    torch.testing.assert_close(directly, theorem, rtol=0, atol=CLOSED_FORM)
