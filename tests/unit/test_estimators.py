"""Estimators of held-out evaluation: by enumeration of all subsets, by hand, and the coverage of intervals."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.estimators import Estimate, bootstrap, majority_at_k, pass_at_k
from trainer.streams import numpy_stream


@pytest.mark.parametrize("samples", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(samples):
    for correct, k in itertools.product(range(samples + 1), range(1, samples + 1)):
        answers = [True] * correct + [False] * (samples - correct)
        subsets = list(itertools.combinations(answers, k))
        share = sum(map(any, subsets)) / len(subsets)
        assert pass_at_k(samples, correct, k) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_by_hand():
    assert pass_at_k(8, 2, 1) == pytest.approx(0.25)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)
    assert pass_at_k(32, 0, 8) == 0.0
    assert pass_at_k(32, 25, 8) == 1.0  # only 7 wrong ones: 8 must hold a right one


@pytest.mark.parametrize(("samples", "k"), [(4, 5), (1, 8)])
def test_pass_at_k_refuses_more_than_were_drawn(samples, k):
    with pytest.raises(ValueError, match=rf"samples={samples}, k={k}.*k <= samples"):
        pass_at_k(samples, 1, k)


def majority_by_enumeration(answers, right, k):
    """The plurality of every subset, ties shared out, an answer's worth the share right of its completions drawn."""
    total, subsets = Fraction(0), list(itertools.combinations(range(len(answers)), k))
    for subset in subsets:
        votes = Counter(answers[place] for place in subset if answers[place] is not None)
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        for answer in winners:
            own = [right[place] for place in subset if answers[place] == answer]
            total += Fraction(sum(own), len(own) * len(winners))
    return float(total / len(subsets))


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c", "d"]), st.booleans()), min_size=1, max_size=8))
def test_majority_at_k_is_the_average_over_all_subsets(votes):
    answers, right = zip(*votes, strict=True)
    for k in range(1, len(votes) + 1):
        expected = majority_by_enumeration(answers, right, k)
        assert majority_at_k(answers, right, k) == pytest.approx(expected, abs=1e-12)


def test_majority_at_k_by_hand():
    answers, right = ["7", "7", "8", "9", "8"], [True, True, False, False, False]
    assert majority_at_k(answers, right, 1) == pytest.approx(2 / 5)
    assert majority_at_k(answers, right, 5) == pytest.approx(1 / 2)  # two votes each: a coin
    # of 10 triples 7 7 8, 7 7 9, 7 7 8 are won by 7; in the 4 of one 7, one 8 and the 9 each has a third; the other
    # three are won by 8
    assert majority_at_k(answers, right, 3) == pytest.approx((3 + 4 / 3) / 10)
    assert majority_at_k(["7", "8", "8", "8"], [True, False, False, False], 3) == pytest.approx(0.0)
    assert majority_at_k(["7"] * 4, [True] * 4, 3) == 1.0


def test_majority_at_one_and_two_is_the_share_right_where_everybody_votes():
    for right in itertools.product([False, True], repeat=5):
        for k in (1, 2):
            assert majority_at_k(["a", "a", "b", "c", "c"], right, k) == pytest.approx(sum(right) / 5, abs=1e-12)


def test_completions_without_an_answer_do_not_vote():
    answers, right = ["4", None, None, None], [True, False, False, False]
    assert majority_at_k(answers, right, 4) == 1.0
    assert majority_at_k(answers, right, 2) == pytest.approx(1 / 2)  # half of the pairs hold the only vote
    assert majority_at_k([None] * 3, [False] * 3, 2) == 0.0


def test_majority_of_many_samples_is_that_of_independent_draws():
    # 1200 samples, of which 3 are drawn: nearly multinomial with p = (0.5, 0.3, 0.2), where the first answer wins with
    # 2 or more votes, and a third of the time when all three differ. 3/1200 bounds the gap of the two samplings.
    answers = ["a"] * 600 + ["b"] * 360 + ["c"] * 240
    expected = 0.5**3 + 3 * 0.5**2 * 0.5 + 6 * 0.5 * 0.3 * 0.2 / 3
    assert majority_at_k(answers, [answer == "a" for answer in answers], 3) == pytest.approx(expected, abs=3 / 1200)


@pytest.mark.parametrize("k", [0, 4])
def test_majority_at_k_refuses_more_than_were_drawn(k):
    with pytest.raises(ValueError, match=rf"k={k}\) must have k from 1 to the 3 samples"):
        majority_at_k(["a", "b", "c"], [True, False, False], k)


def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say():
    # 300 data sets of 40 prompts with a skewed truth; 95 % less the small-sample loss of the percentile interval.
    # 0.90 and 0.99 are three standard errors, sqrt(0.95 * 0.05 / 300) = 0.0126, and more away from 0.95
    generator, truth = np.random.default_rng(1), 2 / 7
    covered = 0
    for data_set in range(300):
        estimate = bootstrap(generator.beta(2, 5, size=40).tolist(), generator=numpy_stream(0, "bootstrap", data_set))
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / 300 <= 0.99


def test_bootstrap_by_hand():
    values = [0.0] * 30 + [1.0] * 70
    estimate = bootstrap(values, generator=numpy_stream(0, "bootstrap"))
    spread = 1.96 * math.sqrt(0.7 * 0.3 / 100)
    assert estimate.value == pytest.approx(0.7, abs=1e-12)
    # quantiles of 2000 resamples, on a grid of 1/100: 0.01 of grid and 0.01 of noise
    assert (estimate.low, estimate.high) == pytest.approx((0.7 - spread, 0.7 + spread), abs=0.02)
    assert estimate == bootstrap(values, generator=numpy_stream(0, "bootstrap"))
    assert bootstrap([0.25] * 9, generator=numpy_stream(0, "other")) == Estimate(0.25, 0.25, 0.25)


def test_a_weighted_mean_is_a_ratio_in_every_resample():
    # half of 100 prompts have value 1 and weight 9, half 3 and 1; with n of the first in a resample the mean is
    # (9 n + 3 (100 - n)) / (9 n + (100 - n)), and 95 % of resamples have n in 40..60
    mean = {n: (9 * n + 3 * (100 - n)) / (9 * n + (100 - n)) for n in (40, 50, 60)}
    estimate = bootstrap([1.0, 3.0] * 50, weights=[9.0, 1.0] * 50, generator=numpy_stream(0, "bootstrap"))
    assert estimate.value == pytest.approx(mean[50], abs=1e-12)
    assert (estimate.low, estimate.high) == pytest.approx((mean[60], mean[40]), abs=0.01)


def test_equal_generators_resample_the_same_prompts():
    """Then an interval of a difference is that of the differences: here the two always differ by 0.1."""
    values = np.random.default_rng(0).random(20)
    first, second = (bootstrap((values + shift).tolist(), generator=numpy_stream(0, "b")) for shift in (0.0, 0.1))
    assert (second.low - first.low, second.high - first.high) == pytest.approx((0.1, 0.1), abs=1e-12)
