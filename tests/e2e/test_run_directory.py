"""What a run leaves on disk: the contract with figures and users."""

import json
import math
import statistics
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import entrocraft
from trainer.columns import COLUMNS
from trainer.files import held
from trainer.parsing import config_from, load_config

SETTINGS = {
    "algorithm.filter": "algorithm1",
    "evaluation.prompts": "4",
    "evaluation.every": "2",
    "band.start": "[0.5,0.6]",
    "optimizer.warmup": "2",
}


def refuse(constant):
    raise AssertionError(f"JSON with {constant}")


@pytest.fixture(scope="module")
def run(tiny, plugins):
    return tiny({**SETTINGS, "reward.function": f"{plugins}:parity"})


def test_the_files_are_those_of_the_contract(run):
    found = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    board = {name for name in found if name.startswith("tensorboard/events.out.tfevents.")}
    model = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    state = {"trainer_state.json", "trainer_state.safetensors", "SHA256SUMS"}
    assert len(board) == 1
    assert found - board == {
        "columns.json",
        "config.yaml",
        "environment.json",
        "evaluations.jsonl",
        "metrics.jsonl",
        "summary.json",
        *(f"rollouts/step_{step}.jsonl" for step in range(3)),
        *(f"checkpoints/step_3/{name}" for name in model | state),
    }
    assert run.printed == f"finished: {run.path / 'summary.json'}\n"


def test_a_row_has_every_column_in_order_and_no_nan(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [list(row) for row in rows] == [list(COLUMNS)] * 3
    assert [row["step"] for row in rows] == [0, 1, 2]
    described = json.loads((run.path / "columns.json").read_text())
    assert list(described) == list(COLUMNS)
    assert described["entropy"] == {"unit": "nats/token", "description": COLUMNS["entropy"].description}
    assert all(isinstance(value, int | float | None) for row in rows for name, value in row.items() if name != "info")
    for file in ("evaluations.jsonl", "rollouts/step_1.jsonl"):
        assert [json.loads(line, parse_constant=refuse) for line in (run.path / file).read_text().splitlines()]
    for file in ("summary.json", "environment.json"):
        assert json.loads((run.path / file).read_text(), parse_constant=refuse)


def test_the_configuration_can_be_read_again(run, plugins):
    given = [f"--{name}={value}" for name, value in SETTINGS.items()]
    given += ["--steps=3", "--rollout.prompts=4", "--rollout.group_size=4", "--algorithm.mini_batches=2"]
    given += ["--evaluation.samples=4", "--theory.probe_rows=4"]
    given += ["--checkpoint.rollouts_every=1", f"--reward.function={plugins}:parity", f"--output={run.path}"]
    written = load_config("--config", str(run.path / "config.yaml"))
    assert written == load_config(*given)
    assert written != load_config(*given, "--seed=1")
    assert asdict(written)["band"]["start"] == (0.5, 0.6)


def test_every_kind_of_value_survives_the_configuration_file(tmp_path):
    """Small floats, nested options, text that looks like a number or like null."""
    settings = {
        "output": str(tmp_path / "run with 'quotes' and ü"),
        "seed": 7,
        "model": {"path": "123"},
        "reward": {"function": "null_module:f"},
        "optimizer": {"learning_rate": 1e-6, "eps": 1e-12},
        "algorithm": {"filter_options": {"gain": 1e-3, "names": ["a", "on"], "deep": {"x": None}}},
        "evaluation": {"settings": ["paper"]},
    }
    config = config_from(settings)
    parsing = entrocraft.load("trainer.parsing")
    (tmp_path / "config.yaml").write_text(parsing.as_yaml(config))
    assert load_config("--config", str(tmp_path / "config.yaml")) == config
    assert config.model.path == "123"
    assert config.algorithm.filter_options == settings["algorithm"]["filter_options"]
    assert config.output == Path(settings["output"])


def test_the_environment_says_what_the_run_depended_on(run):
    environment = json.loads((run.path / "environment.json").read_text())
    assert set(environment) >= {"python", "platform", "packages", "git_commit", "device", "threads", "seed", "command"}
    assert environment["packages"]["torch"] == version("torch")
    assert environment["packages"]["transformers"] == version("transformers")
    assert environment["packages"]["entrocraft"] == entrocraft.__version__
    assert environment["device"] == "cpu" or torch.cuda.is_available()
    assert (environment["seed"], environment["threads"]) == (0, 1)


def test_tensorboard_holds_the_metrics(run):
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    present = {name for row in run.rows for name, value in row.items() if value is not None} - {"step", "info"}
    scalars = board.Tags()["scalars"]
    assert present <= set(scalars)
    assert {"eval_t1/pass@1", "eval_paper/distinct"} <= set(scalars)
    events = board.Scalars("entropy")
    assert [event.step for event in events] == [0, 1, 2]
    assert [event.value for event in events] == pytest.approx([row["entropy"] for row in run.rows], rel=1e-6)


def test_evaluations_are_counts_with_intervals(run):
    assert [(row["step"], row["setting"]) for row in run.evaluations] == [
        (step, setting) for step in (2, 3) for setting in ("t1", "paper")
    ]
    for row in run.evaluations:
        assert len(row["correct"]) == len(row["distinct"]) == 4
        assert all(0 <= d <= c <= 4 for c, d in zip(row["correct"], row["distinct"], strict=True))
        assert list(row["estimates"]) == ["pass@1", "distinct", "response_length", "finished", "entropy"]
        assert (row["key"], row["set"]) == (row["setting"], "test")
        assert all(len(values) == 4 for values in row["per_prompt"].values())
        assert row["estimates"]["pass@1"]["value"] == pytest.approx(sum(row["correct"]) / 16)
        assert row["estimates"]["distinct"]["value"] == pytest.approx(sum(row["distinct"]) / 4)
        assert all(e["low"] <= e["value"] <= e["high"] for e in row["estimates"].values())


def test_what_the_reward_calls_wrong_is_no_distinct_right_answer(tiny, plugins):
    """A user's reward judges a task's prompts too: the task's own verifier has no say then."""
    run = tiny({"reward.function": f"{plugins}:nothing", "steps": "1", "evaluation.prompts": "4"})
    assert [row["correct"] for row in run.evaluations] == [[0] * 4] * 2
    assert [row["distinct"] for row in run.evaluations] == [[0] * 4] * 2


def test_the_summary_follows_from_the_rows(run):
    summary, rows = json.loads((run.path / "summary.json").read_text()), run.rows
    centre = [(row["entropy_low"] + row["entropy_high"]) / 2 for row in rows]
    expected = {
        "steps": 3,
        "samples": 48,
        "skipped_steps": sum(row["skipped"] for row in rows),
        "entropy_start": rows[0]["entropy"],
        "entropy_end": statistics.fmean(row["entropy"] for row in rows),
        "band_rmse": math.sqrt(
            statistics.fmean((row["entropy"] - c) ** 2 for row, c in zip(rows, centre, strict=True))
        ),
        "in_band": statistics.fmean(row["band_indicator"] == 0 for row in rows),
        "accepted_fraction": statistics.fmean(row["accepted_fraction"] for row in rows),
        "reward_end": statistics.fmean(row["reward_mean"] for row in rows),
        "log_prob_gap_max": max(row["log_prob_gap"] for row in rows),
        "median_time_update_s": statistics.median(row["time_update_s"] for row in rows),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    measured = [row["dH_measured"] for row in rows]
    error = sum((row["dH_measured"] - row["dH_first_order"]) ** 2 for row in rows)
    spread = sum((value - statistics.fmean(measured)) ** 2 for value in measured)
    assert summary["r2_first_order"] == pytest.approx(1 - error / spread)
    final = {row["setting"]: row["estimates"] for row in run.evaluations if row["step"] == 3}
    assert summary["evaluations"] == final


def test_a_controllers_own_numbers_are_logged(tiny, plugins):
    run = tiny({"algorithm.filter": f"{plugins}:Remembering", "reward.function": f"{plugins}:parity"})
    assert [row["info"]["steps_seen"] for row in run.rows] == [1, 2, 3]
    assert all(row["info"].keys() == {"even", "steps_seen", "odd"} for row in run.rows)
    assert all(row["info"]["even"] in (0, 1) and row["info"]["odd"] is None for row in run.rows)
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("info/steps_seen")] == [1, 2, 3]


def test_the_learning_rate_warms_up(run):
    assert [row["lr"] for row in run.rows] == pytest.approx([5e-5, 1e-4, 1e-4])


def test_python_gets_the_path_and_the_summary(tmp_path):
    result = entrocraft.train({"output": str(tmp_path / "run"), "steps": 1, "evaluation": {"prompts": 0}})
    assert result.path == tmp_path / "run"
    assert result.summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert result.summary["evaluations"] == {}


def test_a_summary_is_printed_every_so_many_steps(tiny):
    printed = tiny({"log.text_every": "2"}).printed
    assert printed.startswith("step 2 of 3, ")
    assert "step 3 of 3" not in printed
    assert "nats/token, " in printed


def test_one_process_writes_a_run_at_a_time(tiny, tmp_path):
    """The first may be saving after a signal when the second is started: both would write rows."""
    with held(tmp_path / "run"):
        for option in ({}, {"resume": "true"}, {"overwrite": "true"}):
            refused = tiny(option, output=tmp_path / "run", expect=1)
            assert "must be written by one process at a time" in refused.said
    assert not list((tmp_path / "run").iterdir())
    assert tiny(output=tmp_path / "run").rows
