"""Settings of optimiser, KL term, theory and model from end to end: in the rows, and after --resume."""

import shutil

import pytest
import torch

from trainer.config import OptimizerConfig
from trainer.optimizer import build_optimizer, set_learning_rate

RATE, SEEN = 1e-3, {"evaluation.prompts": "0", "log.tensorboard": "false"}
MEASURED = ("dH_measured", "dH_first_order", "sign_rule_agreement")
TABULAR = ("dH_tabular_unit", "dH_tabular", "dH_covariance", "dH_drift", "dH_tabular_scale")


@pytest.fixture(scope="module")
def mixed(tiny, plugins):
    """A function that makes a run on mixed rewards, every checkpoint kept; equal settings share one run."""
    base = {"reward.function": f"{plugins}:parity", "optimizer.learning_rate": RATE, **SEEN}
    base |= {"checkpoint.every": "1", "checkpoint.keep": "0"}
    return lambda **settings: tiny({**base, **{name.replace("__", "."): value for name, value in settings.items()}})


def resumed(run, copied, command, step):
    """The run again, its checkpoints after this step removed, and gone on from there."""
    path = copied(run)
    for later in (path / "checkpoints").iterdir():
        if int(later.name.removeprefix("step_")) > step:
            shutil.rmtree(later)
    found = command("train", "--config", path / "config.yaml", f"--output={path}", "--resume", path=path)
    assert found.code == 0, found.said
    return found


def assert_same(found, run):
    """The same numbers, and every file of the last checkpoint bit for bit: weights, moments and state."""
    assert found.timeless == run.timeless
    sums = (found.last / "SHA256SUMS").read_text()
    assert sums == (run.last / "SHA256SUMS").read_text()
    assert "trainer_state.safetensors" in sums


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", [0.5, 1, 1, 2 / 3, 1 / 3]), ("cosine", [0.5, 1, 1, 0.75, 0.25]), ("constant", [0.5, 1, 1, 1, 1])],
)
def test_learning_rates_by_hand(schedule, shares):
    chosen = OptimizerConfig(learning_rate=RATE, warmup=2, schedule=schedule)
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], chosen)
    for step, share in enumerate(shares):
        assert set_learning_rate(optimizer, chosen, step, 5) == pytest.approx(RATE * share, rel=1e-12)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(RATE * share, rel=1e-12)


def test_the_schedule_is_in_the_rows_and_goes_on_after_resume(mixed, copied, command):
    run = mixed(steps=5, optimizer__warmup=2, optimizer__schedule="cosine", theory__enabled="false")
    assert [row["lr"] for row in run.rows] == pytest.approx([RATE * share for share in (0.5, 1, 1, 0.75, 0.25)])
    assert_same(resumed(run, copied, command, 3), run)


def test_each_kl_estimator_reaches_the_loss(mixed):
    """At the first step policy and reference are one: k2 and k3 have no gradient there, and k1 has."""
    chosen = {"steps": 2, "algorithm__mini_batches": 1, "theory__enabled": "false", "optimizer__learning_rate": 1e-4}
    plain = mixed(**chosen).rows
    rows = {name: mixed(**chosen, algorithm__kl=2, algorithm__kl_estimator=name).rows for name in ("k1", "k2", "k3")}
    norm = plain[0]["grad_norm"]
    assert [rows[name][0]["grad_norm"] for name in ("k2", "k3")] == pytest.approx([norm] * 2, rel=1e-4)
    assert rows["k1"][0]["grad_norm"] != pytest.approx(norm, rel=1e-2)
    for name in ("k2", "k3"):
        added = rows[name][1]["loss"] - plain[1]["loss"]
        assert rows[name][1]["kl"] > 1e-5
        assert added == pytest.approx(2 * rows[name][1]["kl"], rel=1e-2 if name == "k3" else 0.3)
    assert rows["k2"][1]["loss"] != pytest.approx(rows["k3"][1]["loss"], rel=1e-5)
    assert plain[1]["kl"] is None


@pytest.mark.parametrize(
    ("setting", "null"),
    [
        ({"theory__every": 2}, {1: MEASURED}),
        ({"theory__tabular": "false"}, dict.fromkeys(range(3), TABULAR)),
    ],
    ids=["every", "tabular"],
)
def test_theory_looks_at_some_steps_or_columns_and_training_stays_the_same(mixed, setting, null):
    full, run = mixed(), mixed(**setting)
    assert run.weights == full.weights
    for row, expected in zip(run.timeless, full.timeless, strict=True):
        gone = null.get(row["step"], ())
        assert all(row[name] is None for name in gone)
        assert all(row[name] is not None for name in MEASURED if name not in gone)
        others = [name for name in row if not name.startswith(("dH_", "sign_"))]
        assert {name: row[name] for name in others} == {name: expected[name] for name in others}
    assert all(run.rows[2][name] is not None for name in TABULAR if name not in null.get(2, ()))


# Two steps, of which the second is made again from the first one's checkpoint.
BFLOAT16 = {"model__dtype": "bfloat16", "model__gradient_checkpointing": "true"}
COMBINATIONS = {
    "bfloat16 weights": {**BFLOAT16, "model__weights": "bfloat16"},
    "lora and kl": {**BFLOAT16, "model__lora_rank": 2, "algorithm__kl": 0.5},
}


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_types_recomputation_and_adapters_train_and_resume_bit_for_bit(mixed, copied, command, name):
    run = mixed(**COMBINATIONS[name], steps=2, theory__probe_rows=2, algorithm__mini_batches=1)
    first, second = run.rows
    assert all(row["skipped"] == row["bad_mini_batches"] == 0 for row in run.rows)
    assert abs(first["dH_measured"]) > 1e-5
    if "kl" in name:
        # the frozen base is the reference: no distance before the first step, and some after, resumed or not
        assert first["kl"] == pytest.approx(0, abs=1e-6)
        assert second["kl"] > 1e-4
    else:
        assert first["kl"] is second["kl"] is None
    assert_same(resumed(run, copied, command, 1), run)
