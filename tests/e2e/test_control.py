"""Methods of control from end to end: what the filter, the denominator and the loss terms do to a run."""

import pytest

ABOVE, BELOW = "[0.01,0.02]", "[5.0,6.0]"


@pytest.fixture(scope="module")
def settings(plugins):
    """Mixed rewards and a fixed band."""
    return {
        "reward.function": f"{plugins}:parity",
        "band.schedule": "constant",
        "band.unit": "nats",
        "band.start": BELOW,
        "algorithm.mini_batches": "1",
    }


@pytest.mark.parametrize(("band", "kept"), [(ABOVE, 1), (BELOW, -1)])
def test_algorithm1_trains_on_one_sign_alone(tiny, settings, band, kept):
    """Above the band no negative advantage gets through, below it no positive one."""
    run = tiny({**settings, "band.start": band, "algorithm.filter": "algorithm1"})
    assert [row["band_indicator"] for row in run.rows] == [kept] * 3
    for step, row in enumerate(run.rows):
        rollouts = run.rollouts(step)
        assert {rollout["advantage"] * kept >= 0 for rollout in rollouts if rollout["weight"]} == {True}
        assert {rollout["advantage"] * kept < 0 for rollout in rollouts if not rollout["weight"]} == {True}
        assert 0 < row["accepted_fraction"] < 1
        assert row["sign_rule_step"] in (0, 1)
        assert row["skipped"] == 0


def test_one_sign_of_advantages_moves_entropy_to_the_band(tiny, settings):
    """The paper's claim, on the task's own rewards: positives alone lower entropy, negatives alone raise it."""
    learn = {**settings, "algorithm.filter": "algorithm1", "optimizer.learning_rate": "3e-4", "seed": "1"}
    learn |= {"reward.function": "null", "steps": "8", "rollout.prompts": "16", "rollout.group_size": "8"}
    down, up = (sum(row["dH_measured"] for row in tiny({**learn, "band.start": b}).rows) for b in (ABOVE, BELOW))
    assert down < -0.05 < 0 < up


def test_a_filter_aims_at_the_next_steps_band(tiny, settings, plugins):
    # centres at u = 0, 1/3, 2/3: 2, 1.5, 1; after the last step there is no other band
    falling = {"band.schedule": "linear", "band.start": "[1.9,2.1]", "band.end": "[0.4,0.6]"}
    run = tiny({**settings, **falling, "algorithm.filter": f"{plugins}:aiming"})
    assert [row["info"]["aim"] for row in run.rows] == pytest.approx([1.5, 1.0, 1.0], rel=1e-6)


def test_zero_and_drop_differ_by_the_share_of_accepted_tokens(tiny, settings):
    """Same rollouts, same sum; `zero` divides by all tokens, `drop` by those of accepted rollouts."""
    filtered = {**settings, "algorithm.filter": "algorithm1"}
    drop, zero = (tiny({**filtered, "algorithm.denominator": name}) for name in ("drop", "zero"))
    rollouts = drop.rollouts(0)
    assert rollouts == zero.rollouts(0)
    lengths = [min(len(rollout["completion"].split()) + 1, 13) for rollout in rollouts]
    accepted = sum(length for length, rollout in zip(lengths, rollouts, strict=True) if rollout["weight"])
    share = accepted / sum(lengths)
    assert share < 0.9
    for name in ("loss", "grad_norm", "dH_tabular_unit"):
        assert zero.rows[0][name] == pytest.approx(share * drop.rows[0][name], rel=1e-4)
    assert drop.rows[0]["rows_computed"] == zero.rows[0]["rows_computed"]
    assert drop.weights != zero.weights


def test_kl_is_logged_and_pulls_back(tiny, settings):
    learn = {**settings, "optimizer.learning_rate": "1e-3", "steps": "4"}
    free, weak, strong = (tiny({**learn, **kl}).rows for kl in ({}, {"algorithm.kl": "1e-4"}, {"algorithm.kl": "30"}))
    assert {row["kl"] for row in free} == {None}
    assert weak[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert all(row["kl"] > 1e-4 for row in weak[1:])
    assert all(row["rows_computed"] == 16 for row in weak)
    assert all(s["kl"] < 0.7 * w["kl"] for s, w in list(zip(strong, weak, strict=True))[2:])


def test_the_entropy_bonus_raises_entropy(tiny, settings, plugins):
    """With equal rewards nothing else is in the loss."""
    equal = {**settings, "reward.function": f"{plugins}:equal"}
    rows = tiny({**equal, "algorithm.entropy_bonus": "1.0"}).rows
    assert all(row["dH_measured"] > 0 and row["dH_first_order"] > 0 for row in rows)
    assert all((row["skipped"], row["rows_computed"]) == (0, 16) for row in rows)
    assert rows[0]["loss"] == pytest.approx(-rows[0]["entropy"], rel=1e-4)


def test_equal_rewards_skip_every_step_and_the_run_goes_on(tiny, settings, plugins, base_weights):
    run = tiny({**settings, "reward.function": f"{plugins}:equal", "algorithm.mini_batches": "2"})
    assert run.weights == base_weights
    assert len(run.rows) == 3
    for row in run.rows:
        assert (row["skipped"], row["skipped_mini_batches"], row["rows_computed"], row["mixed_groups"]) == (1, 2, 0, 0)
        assert (row["loss"], row["grad_norm"], row["ratio_max"], row["log_prob_gap"]) == (None, None, None, None)
        assert (row["dH_measured"], row["dH_first_order"], row["accepted_fraction"]) == (0, 0, 1)
    assert '"skipped_steps": 3' in (run.path / "summary.json").read_text()


def test_momentum_does_not_move_the_weights_in_a_skipped_step(tiny, settings, tmp_path, monkeypatch):
    """A step that learns, then steps with equal rewards: the weights stay where the first step left them."""
    module = '"""Mixed once."""\ncalls = []\ndef reward(prompts, completions, completion_ids, **columns):\n'
    module += "    calls.append(1)\n    return [float(i % 2 and len(calls) == 1) for i in range(len(completions))]\n"
    (tmp_path / "mixed_once.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    once = {"reward.function": "mixed_once:reward", "checkpoint.every": "1", "checkpoint.keep": "0"}
    run = tiny({**settings, **once, "band.start": "[0.01,6.0]"})
    assert [row["skipped"] for row in run.rows] == [0, 1, 1]
    states = [(run.path / "checkpoints" / f"step_{step}" / "model.safetensors").read_bytes() for step in (1, 2, 3)]
    assert states[0] == states[1] == states[2]


def test_two_epochs_use_every_rollout_twice(tiny, settings):
    learn = {**settings, "optimizer.learning_rate": "1e-3"}
    once, twice = (tiny({**learn, "algorithm.epochs": epochs}) for epochs in ("1", "2"))
    assert once.rollouts(0) == twice.rollouts(0)
    assert twice.rows[0]["rows_computed"] == 2 * once.rows[0]["rows_computed"]
    assert once.rows[0]["ratio_max"] == pytest.approx(1, abs=1e-5)
    assert twice.rows[0]["ratio_max"] > 1.01
    assert twice.rows[0]["log_prob_gap"] == once.rows[0]["log_prob_gap"]


def test_the_clip_range_holds_back_a_second_epoch(tiny, settings):
    """With the range at zero every token that has moved the way its advantage wants has lost its gradient."""
    learn = {**settings, "optimizer.learning_rate": "1e-3", "algorithm.epochs": "2"}
    wide = tiny({**learn, "algorithm.clip_options": "{low: 1.0, high: 100.0}"}).rows[0]
    narrow = tiny({**learn, "algorithm.clip_options": "{low: 0.0, high: 0.0}"}).rows[0]
    assert (wide["clip_low_fraction"], wide["clip_high_fraction"]) == (0, 0)
    assert narrow["clip_low_fraction"] > 0.1
    assert narrow["clip_high_fraction"] > 0.1


def test_token_weights_of_zero_take_the_whole_gradient(tiny, settings, plugins, base_weights):
    """Rows are computed and steps taken, but every gradient is zero, and so is AdamW's step."""
    run = tiny({**settings, "algorithm.token_weight": f"{plugins}:zeros"})
    assert run.weights == base_weights
    assert all((row["loss"], row["grad_norm"], row["skipped"]) == (0, 0, 0) for row in run.rows)
    assert all(row["rows_computed"] > 0 and row["dH_measured"] == 0 for row in run.rows)


def test_reinforce_takes_groups_of_one(tiny, settings, base_weights):
    run = tiny({**settings, "algorithm.advantage": "reinforce", "rollout.group_size": "1", "rollout.prompts": "16"})
    assert [rollout["advantage"] for rollout in run.rollouts(0)] == [rollout["reward"] for rollout in run.rollouts(0)]
    assert run.weights != base_weights
