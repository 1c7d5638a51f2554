"""The live summary, by hand."""

import io
import sys

import pytest

from trainer.text import printable, sparkline, text_summary

TIMES = {"time_rollout_s": 1.0, "time_update_s": 2.0, "time_theory_s": 1.0}


def row(step, **changes):
    return {
        "step": step,
        "tokens": 100 * (step + 1),
        "wall_s": 4.5 * (step + 1) + 100 * (step > 6),  # an evaluation in between
        "reward_mean": 0.1 * step,
        "entropy": 0.5 - 0.01 * step,
        "entropy_low": 0.45,
        "entropy_high": 0.55,
        "band_indicator": -1 if step > 5 else 0,
        "accepted_fraction": 0.5,
        "mixed_groups": 0.25,
        "response_length": 12.0,
        "finished_fraction": 1.0,
        "clip_low_fraction": 0.02,
        "clip_high_fraction": None,
        "kl": None,
        "grad_norm": 2.0,
        "dH_measured": 0.001 * step,
        "dH_first_order": 0.001 * step,
        "dH_tabular": None,
        **TIMES,
        **changes,
    }


def test_the_last_ten_steps_are_averaged_and_what_is_left_is_estimated():
    text = text_summary([row(step) for step in range(12)], 20)
    lines = text.splitlines()
    assert lines[0] == "step 12 of 20, 0:00:36 left; means of the last 10, R2 of 12"  # 8 steps of 4.5 s
    assert "entropy 0.390 nats/token, below the band 0.450 to 0.550  █▇▇▆▅▅▄▄▃▂▂▁ 0.390 to 0.500" in lines[1]
    assert "reward 0.650, accepted 50%" in lines[2]  # steps 2 to 11
    assert "clipped low 2.0%, high -, KL -" in lines[3]
    assert "predicted dH R2 1.000, tabular -" in lines[3]
    assert lines[4] == "  25 tokens/s, time: rollout 25%, update 50%, theory 25%"  # 1000 tokens in 10 times 4 s


def test_one_step_is_enough_and_counts_its_own_tokens():
    lines = text_summary([row(0, dH_measured=None, dH_first_order=None)], 3).splitlines()
    assert lines[0].startswith("step 1 of 3, 0:00:09 left")
    assert lines[-1].startswith("  25 tokens/s")
    assert "dH R2 -," in lines[3]


def test_a_stopped_clock_and_a_missing_entropy_do_no_harm():
    rows = [row(0, wall_s=900.0), row(1, wall_s=5.0, entropy=None, band_indicator=0), row(2, wall_s=9.0)]
    text = text_summary(rows, 4)
    assert "0:00:04 left" in text
    assert "█ ▁" in text


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([None], ""), ([1.0, 1.0], "▄▄"), ([0.0, 7.0, None, 3.0], "▁█ ▄")]
)
def test_sparkline(values, bars):
    assert sparkline(values) == bars


def test_a_terminal_without_the_bars_gets_question_marks(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert printable("0.5 ▁█") == "0.5 ??"
