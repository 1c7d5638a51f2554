"""Sampling drift: measured against X4, and findings that follow the numbers."""

import pandas as pd
import pytest
import torch

from entropy_theory import drift_coefficient, expected_change
from simulations.experiments.drift import EXPERIMENT, Options, fixed_policies, size, slope

TINY = Options(
    repeats=400, chunk=200, vocabularies=(4,), scales=(0.3, 3.0), policies=2, group_sizes=(2, 6), rates=(0.2, 1.0)
)


@pytest.fixture(scope="module")
def rows():
    return pd.concat([pd.DataFrame(cell.run()) for cell in EXPERIMENT.cells(TINY)], ignore_index=True)


def test_a_constant_advantage_has_the_drift_alone():
    z = fixed_policies(4, TINY)
    expected = 0.2**2 / (2 * 6) * drift_coefficient(z)
    torch.testing.assert_close(expected_change(z, torch.ones_like(z), 0.2, 6, order=2), expected)


def test_measured_drift_is_within_five_standard_errors_and_the_first_order_is_not_in_it(rows):
    small = rows[rows.rate == 0.2]
    found = size(small)
    assert abs(found["ratio"] - 1) < 0.05 + 5 * found["error"]
    assert found["error"] < 0.05
    assert abs(found["plain_ratio"] - 1) < 0.05 + 5 * found["plain_error"]
    assert found["plain_error"] > 2 * found["error"]
    for _, part in small.groupby("advantages"):
        got = slope(part)
        assert abs(got["slope"] + 1) < 0.05 + 5 * got["error"]


def test_slope_of_known_powers():
    rows = pd.DataFrame({"group_size": [1, 2, 4], "drift": -1.0, "measured": [-8.0, -2.0, -0.5], "error": 0.01})
    assert slope(rows)["slope"] == pytest.approx(-2)
    assert pd.isna(slope(rows.assign(measured=[-8.0, -2.0, 0.5]))["slope"])


def test_findings_follow_the_rows(rows):
    exact = rows.assign(measured=rows.predicted, error=1e-9 * rows.predicted.abs())
    tables = EXPERIMENT.tables(exact)
    for panel in EXPERIMENT.panels:
        columns = {panel.x, panel.y, panel.by, panel.low, panel.high, *panel.reference}
        assert columns <= set(tables[panel.table].columns) | {""}
    assert EXPERIMENT.findings(tables)[0].startswith("The claim holds at rate 0.2")
    doubled = EXPERIMENT.findings(EXPERIMENT.tables(exact.assign(measured=2 * exact.predicted)))
    assert "in part at rate 0.2 (sign as predicted, size not as predicted, 1/G as predicted" in doubled[0]
    flipped = EXPERIMENT.findings(EXPERIMENT.tables(exact.assign(measured=-exact.predicted)))
    assert flipped[0].startswith("The claim does not hold")
    assert " 0 of these have the sign" in flipped[1]
    alike = exact.assign(measured=exact.predicted * exact.group_size / 2)  # no 1/G
    assert "1/G not as predicted" in EXPERIMENT.findings(EXPERIMENT.tables(alike))[0]
    real = EXPERIMENT.findings(EXPERIMENT.tables(rows))
    assert "Measured over predicted at rate 1" in " ".join(real)
