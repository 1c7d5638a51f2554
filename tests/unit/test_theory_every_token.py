"""Theorem 1 for every token at once: against Theorem 1 token by token, and to 50 digits near determinism."""

import math

import mpmath
import pytest
import torch

from entropy_theory import every_token, sampled_changes
from entropy_theory.change import entropy_change, first_order_change
from entropy_theory.theorems import theorem1
from entropy_theory.updates import sampled_token_delta

INF = math.inf


def policies(arms, scale, masked=False):
    generator = torch.Generator().manual_seed(arms)
    logits = scale * torch.randn(40, arms, generator=generator)
    if masked:
        hidden = torch.rand(40, arms, generator=generator) < 0.4
        hidden[:, :2] = False
        logits = logits.masked_fill(hidden, -INF)
    return logits


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("arms", "scale"), [(2, 1.0), (3, 4.0), (20, 0.3), (20, 8.0)])
def test_it_is_theorem_1_token_by_token(arms, scale, masked):
    if masked and arms == 2:
        pytest.skip("nothing is left to mask")
    logits = policies(arms, scale, masked)
    found = every_token(logits)
    for k in range(arms):
        left = logits[:, k].isfinite()
        rows, token = logits[left], torch.full((int(left.sum()),), k)
        step = sampled_token_delta(rows, token, 1.0)
        one = theorem1(rows, token, step)
        torch.testing.assert_close(found.influence[left, k], -first_order_change(rows, step), rtol=0, atol=1e-13)
        torch.testing.assert_close(found.baseline[left, k], one.output_space_baseline, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.claimed_probability[left, k], one.claimed_probability, rtol=1e-9, atol=1e-9)


def exact(logits, k):
    """S_k - N and Theorem 1's baseline of a sampled token's step, from the definitions, with digits to spare."""
    with mpmath.workdps(800):
        weights = [mpmath.exp(mpmath.mpf(z)) for z in logits]
        p = [w / sum(weights) for w in weights]
        logs = [mpmath.log(x) for x in p]
        entropy = -sum(a * b for a, b in zip(p, logs, strict=True))
        effect = [a * (b + entropy) for a, b in zip(p, logs, strict=True)]
        mean = sum(a * b for a, b in zip(p, effect, strict=True))
        n2 = sum(a * a for a in p)
        moved = [a * ((i == k) - a - p[k] + n2) for i, a in enumerate(p)]
        baseline = sum(-moved[i] / moved[k] * logs[i] for i in range(len(p)) if i != k)
        return float(effect[k] - mean), float(baseline)


@pytest.mark.parametrize("gap", [5.0, 40.0, 100.0, 300.0, 600.0])
def test_the_likeliest_token_keeps_its_digits_near_determinism(gap):
    logits = [gap, 0.0, 1.5, -2.0]
    found = every_token(torch.tensor(logits))
    influence, baseline = exact(logits, 0)
    assert found.baseline[0].item() == pytest.approx(baseline, rel=1e-12)
    if influence > 1e-300:
        assert found.influence[0].item() == pytest.approx(influence, rel=1e-10)


def test_the_baseline_has_its_limit_where_the_rest_is_below_the_float_type():
    # As q -> 0: sum (r + r^2) l_i / (1 + sum r^2), here with one r = 1.
    found = every_token(torch.tensor([5000.0, 0.0]))
    assert found.baseline[0].item() == pytest.approx(-5000.0, rel=1e-12)
    assert found.influence.tolist() == [0.0, 0.0]
    assert found.claimed_probability[0].item() == 1.0


def test_hand_worked_by_two_to_one():
    # p = (2/3, 1/3), H = ln3 - (2/3) ln2: L = (1/3) ln2 (1, -2), S = (2/9) ln2 (1, -1), N = (2/27) ln2, n_2 = 5/9
    found = every_token(torch.tensor([math.log(2), 0.0]))
    assert found.influence.tolist() == pytest.approx([4 / 27 * math.log(2), -8 / 27 * math.log(2)], abs=1e-14)
    # with two arms the only other arm has weight 1
    assert found.baseline.tolist() == pytest.approx([-math.log(3), math.log(2 / 3)], abs=1e-13)
    assert found.claimed_probability.tolist() == pytest.approx([2 / 3, 1 / 3], abs=1e-13)


def test_masked_arms_and_single_arms_have_no_baseline():
    found = every_token(torch.tensor([[1.0, -INF, 0.0], [2.0, -INF, -INF]]))
    assert found.baseline.isnan().tolist() == [[False, True, False], [True, True, True]]
    assert found.influence.isfinite().all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("step", [-2.0, -0.1, 1e-3, 1.0, 5.0])
def test_exact_changes_of_every_token(step, masked):
    logits = policies(9, 3.0, masked)
    found = sampled_changes(logits, step)
    for k in range(9):
        left = logits[:, k].isfinite()
        token = torch.full((int(left.sum()),), k)
        change = entropy_change(logits[left], sampled_token_delta(logits[left], token, step))
        torch.testing.assert_close(found[left, k], change, rtol=0, atol=1e-13)
