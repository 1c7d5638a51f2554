"""The printed formulas at random rationals, to 40 digits against mpmath's derivatives, then tied to the torch ones."""

import random

import mpmath
import pytest
import torch

from entropy_theory import entropy, entropy_change, first_order_change, policy_of, second_order_change

DIGITS = 40
TIE = 1e-12  # relative, float64 against 40 digits: some hundred roundings of 1e-16, and some cancellation
CASES = [(arms, seed) for arms in (2, 3, 4) for seed in range(5)]


@pytest.fixture(autouse=True)
def working_precision():
    with mpmath.workdps(DIGITS + 20):
        yield


def rationals(arms, seed):
    """Logits and a step: random multiples of 1/64, which float64 holds exactly."""
    draw = random.Random(100 * arms + seed)
    return ([mpmath.mpf(draw.randint(-160, 160)) / 64 for _ in range(arms)] for _ in range(2))


def entropy_to_many_digits(logits):
    weights = [mpmath.exp(z) for z in logits]
    total = mpmath.fsum(weights)
    return -mpmath.fsum(w / total * mpmath.log(w / total) for w in weights)


def moved(logits, delta, step):
    return [z + step * d for z, d in zip(logits, delta, strict=True)]


def printed_orders(logits, delta):
    """First and second order as printed: E2's -sum S_i d_i, and half of E3's matrix between d and d."""
    total = mpmath.fsum(mpmath.exp(z) for z in logits)
    p = [mpmath.exp(z) / total for z in logits]
    centred = [mpmath.log(q) + entropy_to_many_digits(logits) for q in p]
    first = -mpmath.fsum(q * c * d for q, c, d in zip(p, centred, delta, strict=True))
    second = mpmath.mpf(0)
    for i, row in enumerate(delta):
        for j, column in enumerate(delta):
            entry = p[i] * p[j] * (1 + centred[i] + centred[j]) - (i == j) * p[i] * (1 + centred[i])
            second += row * entry * column / 2
    return first, second


def tensors(*rows):
    return (torch.tensor([float(value) for value in row]) for row in rows)


@pytest.mark.parametrize(("arms", "seed"), CASES)
def test_printed_formulas_are_the_derivatives_along_the_step(arms, seed):
    logits, delta = rationals(arms, seed)
    first, second = printed_orders(logits, delta)

    def along(step):
        return entropy_to_many_digits(moved(logits, delta, step))

    assert mpmath.almosteq(first, mpmath.diff(along, 0), rel_eps=mpmath.mpf(10) ** -DIGITS)
    assert mpmath.almosteq(second, mpmath.diff(along, 0, 2) / 2, rel_eps=mpmath.mpf(10) ** -DIGITS)


@pytest.mark.parametrize(("arms", "seed"), CASES)
def test_torch_agrees_with_the_printed_formulas(arms, seed):
    logits, delta = rationals(arms, seed)
    first, second = printed_orders(logits, delta)
    before, after = (entropy_to_many_digits(moved(logits, delta, step)) for step in (0, 1))
    z, v = tensors(logits, delta)
    assert entropy(z).item() == pytest.approx(float(before), rel=TIE, abs=0)
    assert entropy_change(z, v).item() == pytest.approx(float(after - before), rel=TIE, abs=0)
    assert first_order_change(z, v).item() == pytest.approx(float(first), rel=TIE, abs=0)
    assert second_order_change(z, v).item() == pytest.approx(float(second), rel=TIE, abs=0)


@pytest.mark.parametrize(("arms", "seed"), CASES)
def test_each_partial_derivative(arms, seed):
    logits, _ = rationals(arms, seed)
    (z,) = tensors(logits)
    for i in range(arms):
        unit = [int(i == j) for j in range(arms)]
        slope = mpmath.diff(lambda step, unit=unit: entropy_to_many_digits(moved(logits, unit, step)), 0)
        assert policy_of(z).discriminator[i].item() == pytest.approx(-float(slope), rel=TIE, abs=0)
