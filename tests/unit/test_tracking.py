"""The estimates of entropy, drift and gain: what they recover exactly, and what they say without knowing."""

import numpy as np
import pytest
import torch

from trainer.methods.tracking import Estimate, Gain, Observer

ZERO = torch.zeros((), dtype=torch.float64)


def tracked(observer, measured, changes):
    """The estimate before each measurement."""
    estimate, found = Estimate(measured[0], 0.0), []
    for value, change in zip(measured, changes, strict=True):
        found.append(estimate)
        estimate = observer.advanced(observer.corrected(estimate, value), change)
    return found


@pytest.mark.parametrize("smoothing", [0.5, 0.85, 0.95])
def test_a_ramp_is_tracked_without_steady_error(smoothing):
    # The slowest pole is sqrt(smoothing): 0.9747^1200 is 4e-14.
    measured = 2.0 - 0.01 * np.arange(1200)
    last = tracked(Observer(smoothing), measured, np.zeros(1200))[-1]
    assert last.entropy == pytest.approx(measured[-1], abs=1e-10)
    assert last.drift == pytest.approx(-0.01, abs=1e-10)


def test_what_updates_were_measured_to_change_is_no_drift():
    changes = 0.1 * np.sin(np.arange(30))
    measured = 1.0 + np.concatenate([[0.0], changes[:-1].cumsum()])
    for estimate, value in zip(tracked(Observer(0.85), measured, changes), measured, strict=True):
        assert estimate.entropy == pytest.approx(value, abs=1e-12)
        assert estimate.drift == pytest.approx(0.0, abs=1e-12)


def test_corrections_by_hand():
    # alpha 0.25, beta 0.0625 / 1.75; a surprise of -0.2
    found = Observer(0.75).corrected(Estimate(1.2, -0.02), 1.0)
    assert (found.entropy, found.drift) == (pytest.approx(1.15), pytest.approx(-0.02 - 0.2 * 0.0625 / 1.75))
    assert Observer(0.75).advanced(found, 0.3).entropy == pytest.approx(1.45 + found.drift)
    assert Observer(0.0).corrected(Estimate(1.2, -0.02), 1.0) == Estimate(1.0, -0.02)


@pytest.mark.parametrize("smoothing", [0.5, 0.85, 0.95])
def test_the_filter_is_stable_and_well_damped(smoothing):
    found = Observer(smoothing).corrected(Estimate(0.0, 0.0), 1.0)
    poles = np.log(np.roots([1, found.entropy + found.drift - 2, 1 - found.entropy]))
    assert (poles.real < 0).all()
    assert (-poles.real / abs(poles) > 0.6).all()  # damping ratio


def learnt(gain, predicted, measured):
    sums = gain.start()
    for x, y in zip(predicted, measured, strict=True):
        sums = gain.learn(sums, torch.as_tensor(x), torch.as_tensor(y))
    return sums


def test_slope_and_offset_of_exact_data_are_recovered():
    gain = Gain(first=1.0, prior=0.0)
    predicted = np.array([0.3, -0.1, 0.2, 0.5])
    slope, offset = gain.line(learnt(gain, predicted, 2.5 * predicted - 0.04), ZERO)
    assert (slope.item(), offset.item()) == (pytest.approx(2.5, abs=1e-10), pytest.approx(-0.04, abs=1e-10))


def test_the_line_by_hand_with_forgetting_and_a_prior():
    gain = Gain(first=2.0, forgetting=0.5, prior=0.1)
    sums = learnt(gain, [1.0, 3.0], [4.0, 5.0])
    # weight 1.5, x 3.5, y 7, xx 9.5, xy 17: spread 4/3, joint 2/3, ridge 0.95
    assert {name: float(value) for name, value in sums.items()} == {
        "weight": 1.5,
        "predicted": 3.5,
        "measured": 7.0,
        "square": 9.5,
        "cross": 17.0,
    }
    slope, offset = gain.line(sums, ZERO)
    expected = (2 / 3 + 0.95 * 2) / (4 / 3 + 0.95)
    assert slope.item() == pytest.approx(expected, abs=1e-12)
    assert offset.item() == pytest.approx((7 - expected * 3.5) / 1.5, abs=1e-12)


def test_predictions_that_never_vary_say_nothing_of_the_slope():
    gain = Gain(first=3.0)
    assert [float(value) for value in gain.line(gain.start(), ZERO)] == [3.0, 0.0]
    slope, offset = gain.line(learnt(gain, [0.2] * 5, [0.5] * 5), ZERO)
    assert (slope.item(), offset.item()) == (pytest.approx(3.0), pytest.approx(0.5 - 3.0 * 0.2))
    slope, offset = gain.line(learnt(gain, [0.0] * 5, [0.5] * 5), ZERO)
    assert (slope.item(), offset.item()) == (pytest.approx(3.0), pytest.approx(0.5))


@pytest.mark.parametrize(("slope", "expected"), [(-2.0, 0.5), (100.0, 8.0), (3.0, 3.0)])
def test_the_slope_stays_in_its_range(slope, expected):
    gain, predicted = Gain(first=2.0, prior=0.0, range=4.0), np.array([0.1, -0.1, 0.2])
    assert gain.line(learnt(gain, predicted, slope * predicted), ZERO)[0].item() == pytest.approx(expected)


def test_repeats_learn_each_their_own():
    gain = Gain()
    predicted, measured = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2)).double()
    together = gain.line(learnt(gain, predicted, measured), torch.zeros(3, dtype=torch.float64))
    for repeat in range(3):
        alone = gain.line(learnt(gain, predicted[:, repeat], measured[:, repeat]), ZERO)
        for both, one in zip(together, alone, strict=True):
            torch.testing.assert_close(both[repeat], one)


@pytest.mark.parametrize(
    "options",
    [
        {"first": 0.0},
        {"prior": -0.1},
        {"range": 0.5},
        {"forgetting": 0.0},
        {"forgetting": 1.1},
        {"first": float("nan")},
    ],
)
def test_gains_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=r"^Gain\(.*\) must "):
        Gain(**options)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_that_cannot_be_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"^Observer\(smoothing=.*\) must be in \[0, 1\)"):
        Observer(smoothing)
