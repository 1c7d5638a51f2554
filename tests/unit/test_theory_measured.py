"""Theorems 1 and 2 with a measured step: the printed ones with the same delta p, and safe where they are 0/0."""

import math
from dataclasses import fields

import mpmath
import pytest
import torch

from entropy_theory import entropy, measured_theorem1, measured_theorem2, theorem1
from entropy_theory.chunked import TILE

CLOSED_FORM = 1e-10


def close(found, expected, tolerance=CLOSED_FORM):
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, equal_nan=True)


def drawn(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(count=40, arms=7, step=0.3, seed=0):
    """Logits before and after a step of all arms, and a token for each row."""
    before = drawn(count, arms, seed=seed)
    after = before + drawn(count, arms, seed=seed + 1, scale=step)
    return before, after, torch.randint(arms, (count,), generator=torch.Generator().manual_seed(seed))


def test_the_objects_are_those_of_the_theorem():
    before, after, token = rows()
    found, p, log_p = measured_theorem1(before, after, token), before.softmax(-1), before.log_softmax(-1)
    delta_p = after.softmax(-1) - p
    log_p_k, delta_p_k = (values.gather(-1, token[:, None])[:, 0] for values in (log_p, delta_p))
    weights = (-delta_p / delta_p_k[:, None]).scatter(-1, token[:, None], 0.0)
    close(weights.sum(-1), torch.ones(40), 1e-8)
    baseline = (weights * log_p).sum(-1)
    assert bool(found.moved.all())
    close(found.log_prob, log_p_k)
    close(found.delta_p, delta_p_k)
    torch.testing.assert_close(found.baseline, baseline, rtol=1e-8, atol=0)
    close(found.first_order, -(delta_p * log_p).sum(-1))
    close(found.change, entropy(after) - entropy(before))
    assert torch.equal(found.condition, log_p_k > baseline)
    assert 5 < found.condition.sum() < 35


def test_it_is_theorem_1_with_the_same_delta_p():
    """The logit step with delta_i = delta p_i / p_i has E_p delta = 0, so that its first order is the measured one."""
    before, after, token = rows(step=0.05)
    step = after.softmax(-1) / before.softmax(-1) - 1
    printed, found = theorem1(before, token, step), measured_theorem1(before, after, token)
    close(found.first_order, printed.change)
    close(found.delta_p, printed.delta_p.gather(-1, token[:, None])[:, 0])
    torch.testing.assert_close(found.baseline, printed.output_space_baseline, rtol=1e-7, atol=0)
    assert torch.equal(found.condition, printed.condition)


def test_two_arms_by_hand():
    # p = (3/4, 1/4) to (2/3, 1/3): the other arm has all the weight, b = ln(1/4), first order -(1/12) ln 3 * -1.
    before, after = torch.tensor([math.log(3), 0.0]), torch.tensor([math.log(2), 0.0])
    for token, sign in ((0, -1), (1, 1)):
        found = measured_theorem1(before, after, torch.tensor(token))
        close(found.delta_p, torch.tensor(sign / 12))
        close(found.baseline, torch.tensor(math.log((1 / 4, 3 / 4)[token])))
        close(found.first_order, torch.tensor(math.log(3) / 12))
        assert bool(found.condition) == (token == 0)


def test_a_nearly_certain_token_keeps_its_digits():
    before = torch.tensor([30.0, 0.0, -0.5])
    after = before + torch.tensor([0.001, 0.0, 0.0005])
    found = measured_theorem1(before, after, torch.tensor(0))
    with mpmath.workdps(60):
        p, q = (
            [mpmath.exp(z) / mpmath.fsum(map(mpmath.exp, values)) for z in values]
            for values in ([mpmath.mpf(z) for z in row.tolist()] for row in (before, after))
        )
        delta = [b - a for a, b in zip(p, q, strict=True)]
        weighted = mpmath.fdot(delta, map(mpmath.log, p))
        baseline = mpmath.log(p[0]) - weighted / delta[0]
    # The step itself has the rounding of logits of size 30.
    assert found.delta_p.item() == pytest.approx(float(delta[0]), rel=1e-9)
    assert found.first_order.item() == pytest.approx(float(-weighted), rel=1e-9)
    assert found.baseline.item() == pytest.approx(float(baseline), rel=1e-9)
    assert bool(found.moved)
    assert bool(found.condition)


def test_a_token_that_does_not_move_has_a_change_and_no_baseline():
    # Token 0 keeps p = 1/2; the others trade places: p = (1/2, 1/3, 1/6) to (1/2, 1/4, 1/4).
    before = torch.tensor([1 / 2, 1 / 3, 1 / 6]).log()
    after = torch.tensor([1 / 2, 1 / 4, 1 / 4]).log()
    found = measured_theorem1(before, after, torch.tensor(0))
    close(found.first_order, torch.tensor(math.log(2) / 12))
    assert (bool(found.moved), bool(found.condition), bool(found.baseline.isnan())) == (False, False, True)
    still = measured_theorem1(before, before + 3, torch.tensor(1))
    assert not bool(still.moved)
    close(still.change, torch.tensor(0.0))


def test_the_tolerance_is_of_the_tokens_log_odds():
    before = torch.tensor([[9.0, 0.0], [-9.0, 0.0], [0.0, 0.0]])
    token = torch.zeros(3, dtype=torch.long)
    for size, moved in ((0.009, False), (0.011, True)):
        after = before + torch.tensor([size, 0.0])
        assert measured_theorem1(before, after, token, tolerance=0.01).moved.tolist() == [moved] * 3


def test_masked_arms_take_no_part():
    before, after, token = rows(arms=3)
    hole = torch.full((40, 1), -math.inf)
    wide = [torch.cat([values, hole], -1) for values in (before, after)]
    alone, found = measured_theorem1(before, after, token), measured_theorem1(*wide, token)
    for item in fields(alone):
        close(getattr(found, item.name), getattr(alone, item.name))
    gone = measured_theorem1(torch.zeros(2), torch.tensor([0.0, -math.inf]), torch.tensor(0))
    close(gone.change, torch.tensor(-math.log(2)))
    close(gone.delta_p, torch.tensor(0.5))


def test_rows_are_taken_a_tile_at_a_time_and_in_any_shape():
    arms = TILE[0] // 3
    before, after, token = rows(count=8, arms=arms)
    whole = measured_theorem1(before.reshape(2, 4, arms), after.reshape(2, 4, arms), token.reshape(2, 4))
    assert whole.log_prob.shape == (2, 4)
    for place in range(8):
        close(whole.change.flatten()[place], measured_theorem1(before[place], after[place], token[place]).change)
    empty = measured_theorem1(torch.zeros(0, 5), torch.zeros(0, 5), torch.zeros(0, dtype=torch.long))
    assert empty.baseline.shape == (0,)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"after": torch.full((2, 3), math.nan)}, "measured_theorem1(after) must have a finite logit"),
        ({"before": torch.tensor([[0.0, 0.0, -math.inf]] * 2)}, "measured_theorem1(after) must mask every arm"),
        ({"token": torch.tensor([0, 3])}, "measured_theorem1(token) must be in 0..2"),
        ({"tolerance": 0.0}, "measured_theorem1(tolerance=0.0) must be a finite number above 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(changed, words):
    given = {"before": torch.zeros(2, 3), "after": torch.zeros(2, 3), "token": torch.tensor([0, 1])} | changed
    with pytest.raises(ValueError, match="measured_theorem1") as refused:
        measured_theorem1(**given)
    assert words in str(refused.value)


def responses():
    before, after, token = rows(count=30)
    mask = torch.ones(6, 5, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2] = False
    tokens = measured_theorem1(*(values.reshape(6, 5, 7) for values in (before, after)), token.reshape(6, 5))
    return tokens, mask


def test_a_response_sums_its_tokens():
    tokens, mask = responses()
    found = measured_theorem2(tokens, mask)
    assert found.tokens.tolist() == [5, 3, 0, 5, 5, 5]
    close(found.log_prob, (tokens.log_prob * mask).sum(-1))
    close(found.baseline, (tokens.baseline * mask).sum(-1), 1e-8)
    close(found.first_order, (tokens.first_order * mask).sum(-1))
    gap = found.log_prob - found.baseline
    assert torch.equal(found.condition, (gap >= 0) & (found.tokens > 0))
    some = found.tokens > 0
    torch.testing.assert_close((-found.effective_delta_p * gap)[some], found.first_order[some], rtol=1e-8, atol=0)
    assert bool(found.effective_delta_p[2].isnan())
    assert {True, False} == set(found.condition[some].tolist())


def test_the_effective_change_can_point_the_other_way():
    """Two tokens that both rise: gaps of opposite sign make the mean negative, outside of what it is a mean of."""
    p = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    q = torch.tensor([[0.91, 0.09], [0.40, 0.60]])
    tokens = measured_theorem1(p.log(), q.log(), torch.tensor([0, 0]))
    found = measured_theorem2(tokens, torch.tensor([True, True]))
    gaps = torch.tensor([math.log(9), math.log(3 / 7)])
    close(found.effective_delta_p, (torch.tensor([0.01, 0.1]) * gaps).sum() / gaps.sum())
    assert bool(found.condition)
    assert found.effective_delta_p < 0 < tokens.delta_p.min()
    assert not bool(measured_theorem2(tokens, torch.tensor([False, False])).condition)
