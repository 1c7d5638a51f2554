"""The band of a run: a schedule from a file, joined from the policy's own entropy; and a band that cannot be met."""

import pytest

from trainer.parsing import load_config


@pytest.fixture(scope="module")
def warm(tiny, tmp_path_factory):
    """A run of three steps whose file says 0.3 to 0.5 nats, joined at u = 1/2, and the file."""
    file = tmp_path_factory.mktemp("schedule") / "schedule.csv"
    file.write_text("step,low,high\n0,0.3,0.5\n")
    band = {"band.unit": "nats", "band.schedule": "piecewise", "band.warm_start": "0.5"}
    return tiny({**band, "band.options": f"{{file: {file}}}"}), file


def test_a_warm_start_begins_at_the_policys_entropy(warm):
    rows = warm[0].rows
    first = rows[0]["entropy"]
    # u = 0, 1/3, 2/3: nothing, two thirds and all of the way from there to 0.4
    centres = (first, first / 3 + 0.4 * 2 / 3, 0.4)
    for row, centre in zip(rows, centres, strict=True):
        assert (row["entropy_low"], row["entropy_high"]) == pytest.approx((centre - 0.1, centre + 0.1), rel=1e-6)


def test_a_run_keeps_the_schedule_of_its_file(warm, command, copied):
    run, file = warm
    assert load_config("--config", str(run.path / "config.yaml")).band.options == {"points": [[0.0, 0.3, 0.5]]}
    path = copied(run)
    again = ["train", "--config", path / "config.yaml", "--output", path, "--resume=true"]
    assert command(*again, path=path).code == 0
    file.write_text("step,low,high\n0,0.2,0.5\n")
    other = command(*again, f"--band.options={{file: {file}}}", path=path)
    assert other.code == 1
    assert "band.options.points: [[0.0, 0.3, 0.5]] -> [[0.0, 0.2, 0.5]]" in other.said


def test_a_band_above_log_v_is_told(tiny):
    said = tiny({"band.schedule": "constant", "band.unit": "nats", "band.start": "[5.0,6.0]"}).said
    assert said.count("above log V = 4.66 nats") == 1
