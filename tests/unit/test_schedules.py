"""Entropy schedules against numbers worked by hand, files of points, and what is refused."""

import math
import re

import pytest

from trainer.algorithm import band_at, build_schedule, unreachable
from trainer.methods.schedules import Constant, Cosine, Linear, Piecewise, SquareWave, WarmStart
from trainer.methods.stages import Band
from trainer.parsing import config_from
from trainer.schedule_file import read_points, with_points

CLOSED_FORM = 1e-10
START, END = (0.6, 0.9), (0.2, 0.3)
LATE_COSINE = (1 - math.cos(0.7 * math.pi)) / 2  # 0.7939...


@pytest.mark.parametrize(
    ("schedule", "progress", "share"),
    [
        *((Constant, progress, 0.0) for progress in (0.0, 0.4, 1.0)),
        *((Linear, progress, progress) for progress in (0.0, 0.25, 0.7, 1.0)),
        *((Cosine, *pair) for pair in ((0.0, 0.0), (1 / 3, 0.25), (0.5, 0.5), (0.7, LATE_COSINE), (1.0, 1.0))),
    ],
)
def test_schedules_by_hand(schedule, progress, share):
    band = schedule(START, END)(progress)
    assert band.low == pytest.approx(0.6 - 0.4 * share, abs=CLOSED_FORM)
    assert band.high == pytest.approx(0.9 - 0.6 * share, abs=CLOSED_FORM)


@pytest.mark.parametrize("schedule", [Constant, Linear, Cosine])
@pytest.mark.parametrize(
    ("start", "end", "name"),
    [((0.5, 0.4), END, "start"), (START, (0.31, 0.3), "end"), ((-0.1, 0.4), END, "start")],
)
def test_schedules_refuse_an_upside_down_or_negative_band(schedule, start, end, name):
    with pytest.raises(ValueError, match=rf"{schedule.__name__}\({name}=.*low <= high"):
        schedule(start, end)


# up to (0.6, 0.9) at u = 1/4, there a jump to (0.1, 0.3), which falls to (0, 0.1) at u = 3/4
POINTS = [[0.0, 0.4, 0.5], [0.25, 0.6, 0.9], [0.25, 0.1, 0.3], [0.75, 0.0, 0.1]]


@pytest.mark.parametrize(
    ("progress", "low", "high"),
    [
        (0.0, 0.4, 0.5),
        (0.125, 0.5, 0.7),
        (0.2, 0.56, 0.82),
        (0.25, 0.1, 0.3),
        (0.375, 0.075, 0.25),
        (0.75, 0.0, 0.1),
        (1.0, 0.0, 0.1),
    ],
)
def test_piecewise_by_hand(progress, low, high):
    band = Piecewise(POINTS)(progress)
    assert (band.low, band.high) == pytest.approx((low, high), abs=CLOSED_FORM)


def test_piecewise_holds_its_ends():
    one = Piecewise([[0.5, 0.1, 0.2]])
    assert one(0.0) == one(0.5) == one(1.0) == Band(0.1, 0.2)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([], "list of rows"),
        (0.5, "list of rows"),
        ([[0, 0.1, 0.2], [1, 0.1]], "row 2, must be three finite numbers"),
        ([[0, 0.1, math.nan]], "row 1, must be three finite numbers"),
        ([[0, "low", 0.2]], "row 1, must be three finite numbers"),
        ([[1.5, 0.1, 0.2]], r"row 1, must have its progress in \[0, 1\]; got 1.5"),
        ([[0, 0.3, 0.2]], "row 1, must have 0 <= low <= high; got low 0.3"),
        ([[0, -0.1, 0.2]], "row 1, must have 0 <= low"),
        ([[0.5, 0.1, 0.2], [0.4, 0.1, 0.2]], "row 2, must not go back; got 0.4 after 0.5"),
        ([[0.5, 0.1, 0.2]] * 3, "row 3, must not be a third point"),
    ],
)
def test_piecewise_refuses(points, said):
    with pytest.raises(ValueError, match=said):
        Piecewise(points)


SCHEDULES = [
    Constant(START, END),
    Linear(START, END),
    Cosine(START, END),
    SquareWave(START, END, period=0.4),
    Piecewise(POINTS),
    WarmStart(Piecewise(POINTS), entropy=1.0, share=0.5),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_band_at_is_the_schedule_in_units_of_the_base_entropy(schedule):
    for step in range(8):
        plain, band = schedule(step / 8), band_at(schedule, step, steps=8, unit=2.0)
        assert (band.low, band.high) == (2 * plain.low, 2 * plain.high)


def test_a_band_by_hand_in_nats():
    # u = 3/4: low 0.6 - 0.3 = 0.3, high 0.9 - 0.45 = 0.45, times 2 nats
    band = band_at(Linear(START, END), step=150, steps=200, unit=2.0)
    assert (band.low, band.high, band.centre) == pytest.approx((0.6, 0.9, 0.75), abs=CLOSED_FORM)
    with pytest.raises(ValueError, match="low <= high"):
        Band(0.5, 0.4)


def test_a_warm_start_goes_straight_from_the_entropy_to_the_schedule():
    # at u = 0.4 the schedule is (0.44, 0.66), centre 0.55; its half width is 0.15 - 0.1 u
    warm = WarmStart(Linear(START, END), entropy=1.55, share=0.4)
    for progress, centre, half_width in ((0.0, 1.55, 0.15), (0.1, 1.3, 0.14), (0.3, 0.8, 0.12), (0.4, 0.55, 0.11)):
        band = warm(progress)
        expected = (centre - half_width, centre + half_width)
        assert (band.low, band.high) == pytest.approx(expected, abs=CLOSED_FORM)
    assert warm(0.7) == Linear(START, END)(0.7)
    # From below, and from so low that the width does not fit: the centre stays.
    low = WarmStart(Constant(START, END), entropy=0.05, share=0.5)
    assert (low(0.0).low, low(0.0).high) == pytest.approx((0.0, 0.1), abs=CLOSED_FORM)
    assert (low(0.25).low, low(0.25).high) == pytest.approx((0.25, 0.55), abs=CLOSED_FORM)


@pytest.mark.parametrize(
    "text",
    [
        "progress,low,high\n0,0.4,0.6\n0.5,0.2,0.3\n",
        "step,low,high\n0,0.4,0.6\n\n20,0.2,0.3\n",
        "\ufeffhigh, low , note, step\n0.6, 0.4, first, 0\n0.3, 0.2, , 20\n",
        "progress,centre,half_width\n0,0.5,0.1\n0.5,0.25,0.05\n",
    ],
    ids=["progress", "step", "other-columns", "centre"],
)
def test_points_of_a_file(tmp_path, text):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    rows = read_points(tmp_path / "s.csv", steps=40)
    assert [value for row in rows for value in row] == pytest.approx([0, 0.4, 0.6, 0.5, 0.2, 0.3], abs=CLOSED_FORM)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "s.csv:1 must name the columns"),
        ("progress,low\n0,1\n", r"s.csv:1 must name the columns .*got \['progress', 'low'\]"),
        ("progress,step,low,high\n0,0,1,1\n", "s.csv:1 must name the columns"),
        ("progress,low,high\n", "s.csv must hold points"),
        ("progress,low,high\n0,1,2\n\n0.5,x,2\n", "s.csv:4, column low, must be a number; got 'x'"),
        ("progress,low,high\n0,1\n", "s.csv:2, column high, must be a number; got None"),
        ("progress,low,high\n0,0,5,0,6\n", "s.csv:2 must have 3 cells"),
        ("progress,low,high\n0,1,nan\n", "s.csv:2 must be three finite numbers"),
        ("progress,low,high\n0,1,2\n0.5,2,1\n", "s.csv:3 must have 0 <= low <= high"),
        ("progress,low,high\n0.5,1,2\n\n0.4,1,2\n", "s.csv:4 must not go back"),
        ("step,low,high\n0,1,2\n41,1,2\n", r"s.csv:3, column step, must be in the run's \[0, 40\]; got 41"),
    ],
)
def test_a_files_faults_are_named_by_line(tmp_path, text, said):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_points(tmp_path / "s.csv", steps=40)


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "s.csv").write_bytes("progress,low,high,é\n".encode("latin1"))
    with pytest.raises(ValueError, match="must be a CSV file in UTF-8"):
        read_points(tmp_path / "s.csv", steps=40)
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_points(tmp_path / "none.csv", steps=40)


def of_band(**band):
    return config_from({"steps": 4, "band": band})


def test_a_configuration_takes_points_or_a_file(tmp_path):
    (tmp_path / "s.csv").write_text("step,low,high\n0,0.25,0.5\n2,0.5,1\n")
    for options in ({"file": str(tmp_path / "s.csv")}, {"points": [[0, 0.25, 0.5], [0.5, 0.5, 1]]}):
        config = with_points(of_band(schedule="piecewise", options=options))
        assert set(config.band.options) == {"points"}
        assert build_schedule(config)(0.25) == Band(0.375, 0.75)
    for options in ({}, {"file": "s.csv", "points": []}):
        with pytest.raises(ValueError, match="must hold points or file"):
            with_points(of_band(schedule="piecewise", options=options))


def never_finite(progress):
    return Band(0.1, math.inf if progress == 0.75 else 0.2)


def falling(progress):
    return Band(0.0, 1 - progress)


def test_a_schedule_of_the_users_own_is_checked_at_every_step():
    assert build_schedule(of_band(schedule=f"{__name__}:falling"))(0.25) == Band(0.0, 0.75)
    with pytest.raises(ValueError, match=re.escape("got Band(low=0.1, high=inf) at step 3 of 4")):
        build_schedule(of_band(schedule=f"{__name__}:never_finite"))


def test_an_unreachable_band_is_told():
    # low is 0.6, 0.5, 0.4, 0.3 units of 2 nats; log 2 = 0.69
    said = unreachable(Linear(START, END), steps=4, unit=2.0, vocabulary=2)
    assert said is not None
    assert "in 3 of 4 steps, first at step 0" in said
    assert unreachable(Linear(START, END), steps=4, unit=1.0, vocabulary=2) is None


def test_options_of_a_schedule_are_named_as_the_configuration_has_them():
    with pytest.raises(ValueError, match=r"band\.options=.*'perod'.*Did you mean 'period'"):
        build_schedule(of_band(schedule="square", options={"perod": 0.5}))
    with pytest.raises(ValueError, match=r"band\.warm_start=1\.5"):
        of_band(warm_start=1.5)
