"""`entrocraft evaluate`: a checkpoint under its run's settings, adapters, other models, saved results, and refusals."""

import json
import re
import shutil
import sys

import pytest

SMALL = ["--evaluation.prompts=2", "--evaluation.samples=2"]
FAILING = """
calls = []

def reward(prompts, completions, completion_ids, **columns):
    calls.append(1)
    if len(calls) > 1:
        raise ValueError("the second setting is not scored")
    return [1.0] * len(completions)
"""


@pytest.fixture
def run(tiny, plugins):
    """A run with a reward of the user's own, which no default would give."""
    return tiny({"reward.function": f"{plugins}:parity", "optimizer.learning_rate": "1e-3", "evaluation.prompts": "4"})


def final(run):
    return [{k: v for k, v in row.items() if k != "step"} for row in run.evaluations if row["step"] == 3]


def test_a_checkpoint_gives_what_its_run_measured(run, command, tmp_path):
    """Data and reward come from the run's own settings, without repeating them."""
    shown = command("evaluate", run.last, "--output", tmp_path / "new" / "results.json")
    assert shown.code == 0, shown.said
    for row in final(run):
        part = shown.printed.partition(f"{run.last}, {row['key']}: 4 prompts x 4 samples")[2]
        for name, e in row["estimates"].items():
            assert f"  {name:15} {e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" in part
    assert re.search(r"^  pass@1 +0\.\d{3} \[\d\.\d{3}, \d\.\d{3}\] \(mean@4\)$", shown.printed, re.M)
    assert re.search(r"^  entropy .* nats/token at temperature 1$", shown.printed, re.M)
    saved = json.loads((tmp_path / "new" / "results.json").read_text())
    assert saved["evaluations"] == final(run)
    assert saved["policy"] == str(run.last)
    assert saved["config"]["reward"]["function"].endswith(":parity")
    assert saved["environment"]["packages"]["torch"]


def test_a_run_directory_stands_for_its_latest_checkpoint(run, command, tmp_path):
    shown = command("evaluate", run.path, f"--output={tmp_path / 'results.json'}")
    assert shown.code == 0, shown.said
    assert json.loads((tmp_path / "results.json").read_text())["evaluations"] == final(run)


def test_further_settings_change_the_runs_own(run, command, tmp_path):
    own = ["--evaluation.settings=[greedy,warm]", "--evaluation.sampling={warm: {temperature: 0.8, top_k: 20}}"]
    preset = ["--config", "paper-evaluation", *own, "--evaluation.samples=3"]
    shown = command("evaluate", run.last, *preset, f"--output={tmp_path / 'results.json'}")
    assert shown.code == 0, shown.said
    saved = json.loads((tmp_path / "results.json").read_text())
    assert [(row["setting"], row["samples"], len(row["correct"])) for row in saved["evaluations"]] == [
        ("greedy", 1, 4),
        ("warm", 3, 4),
    ]
    assert saved["config"]["evaluation"]["every"] == 5  # of the preset
    assert saved["config"]["reward"]["function"].endswith(":parity")  # of the run


def test_held_out_sets_are_told_apart(command, tmp_path, plugins):
    for name, prompts in {"train": ["9 9 9 9 18 :"], "easy": ["1 1 2 2 3 :"], "hard": ["9 8 7 6 90 :"] * 2}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    given = [f"--data.prompts={tmp_path / 'train.jsonl'}", f"--reward.function={plugins}:parity"]
    given += [f"--data.held_out={{easy: {tmp_path / 'easy.jsonl'}, hard: {tmp_path / 'hard.jsonl'}}}"]
    given += ["--rollout.max_new_tokens=4", "--rollout.prompts=4", "--rollout.group_size=4", "--evaluation.samples=2"]
    shown = command("train", *given, "--steps=1", f"--output={tmp_path / 'run'}")
    assert shown.code == 0, shown.said
    rows = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    keys = ["easy/t1", "easy/paper", "hard/t1", "hard/paper"]
    assert [row["key"] for row in rows] == keys
    assert [(row["set"], len(row["correct"])) for row in rows] == [("easy", 1)] * 2 + [("hard", 2)] * 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {row["key"]: row["estimates"] for row in rows} == summary["evaluations"]
    again = command("evaluate", tmp_path / "run", f"--output={tmp_path / 'again.json'}")
    assert [line for line in again.printed.splitlines() if "prompts x" in line] == [
        f"{tmp_path / 'run' / 'checkpoints' / 'step_1'}, {row['key']}: {len(row['correct'])} prompts x 2 samples"
        for row in rows
    ]
    built = command("figures", "build", "quickstart", tmp_path / "run", f"--output={tmp_path / 'figures'}")
    assert built.code == 0, built.said
    table = (tmp_path / "figures" / "quickstart.md").read_text()
    value = rows[2]["estimates"]["response_length"]
    cell = f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    assert f"| response length (tokens), hard, temperature 1 | {cell} |" in table


def test_adapters_go_on_the_model_they_were_made_for(tiny, command, tmp_path):
    lora = tiny({"model.lora_rank": "2", "optimizer.learning_rate": "1e-2", "evaluation.prompts": "4"})
    given = [*(f"--evaluation.{name}=4" for name in ("prompts", "samples")), f"--output={tmp_path / 'moved.json'}"]
    results = {}
    # in its run; and as a folder alone, whose adapter_config.json names the base
    for name, policy in {"run": lora.last, "moved": shutil.copytree(lora.last, tmp_path / "adapter")}.items():
        given[-1] = f"--output={tmp_path / name}.json"
        shown = command("evaluate", policy, *given)
        assert shown.code == 0, shown.said
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())["evaluations"]
    assert results["run"] == results["moved"] == final(lora)
    base = command("evaluate", "countdown-0.2m", *given[:-1]).printed
    assert f"{final(lora)[0]['estimates']['entropy']['value']:.3f}" not in base


def test_adapters_without_their_model_are_refused(tiny, command, tmp_path):
    lora = tiny({"model.lora_rank": "2", "optimizer.learning_rate": "1e-2", "evaluation.prompts": "4"})
    adapter = shutil.copytree(lora.last, tmp_path / "adapter")
    written = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**written, "base_model_name_or_path": None}))
    nameless = command("evaluate", adapter, *SMALL)
    assert nameless.code == 1
    assert "adapters" in nameless.said
    assert "Set model.path" in nameless.said
    size = ["--hidden=16", "--layers=1", "--heads=2", "--feed_forward=16", "--iterations=1", "--batch_size=2"]
    assert command("pretrain", f"--output={tmp_path / 'other'}", *size).code == 0
    other = command("evaluate", adapter, *SMALL, f"--model.path={tmp_path / 'other'}")
    assert other.code == 1
    assert f"must hold adapters of model.path='{tmp_path / 'other'}'" in other.said
    assert "Traceback" not in other.said


def test_results_are_saved_as_they_come_and_never_overwritten(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_later.py").write_text(FAILING)
    given = ["countdown-0.2m", *SMALL, "--reward.function=failing_later:reward", "--output=results.json"]
    cut = command("evaluate", *given)
    assert cut.code == 1
    assert "the second setting is not scored" in cut.said
    assert not (tmp_path / "results.json").exists()
    held = json.loads((tmp_path / "results.json.unfinished").read_text())
    assert [row["setting"] for row in held["evaluations"]] == ["t1"]
    (tmp_path / "failing_later.py").write_text(FAILING.replace("> 1", "> 9"))
    monkeypatch.delitem(sys.modules, "failing_later")
    whole = command("evaluate", *given)
    assert whole.code == 0, whole.said
    assert not (tmp_path / "results.json.unfinished").exists()
    text = (tmp_path / "results.json").read_text()
    assert [row["setting"] for row in json.loads(text)["evaluations"]] == ["t1", "paper"]
    refused = command("evaluate", *given)
    assert refused.code == 1
    assert "--output='results.json' must be a new file" in refused.said
    assert refused.printed == ""
    assert (tmp_path / "results.json").read_text() == text


def test_what_cannot_be_evaluated_is_refused(command, copied, run, tmp_path, plugins):
    assert "model.path" in command("evaluate", "/no/such", *SMALL).said
    assert command("evaluate", *SMALL).code == 2
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 2 3 4 7 :"}\n')
    file = [f"--data.prompts={tmp_path / 'rows.jsonl'}", f"--reward.function={plugins}:parity"]
    cases = {
        "data.held_out": ["countdown-0.2m", *file, "--rollout.max_new_tokens=4"],
        "evaluation.prompts above 0": ["countdown-0.2m", "--evaluation.prompts=0"],
        "got ['gredy']": ["countdown-0.2m", "--evaluation.settings=[gredy]"],
        "evaluation.sampling.hot: ": ["/no/such", "--evaluation.sampling={hot: {temperature: -1}}"],
    }
    path = copied(run)
    shutil.rmtree(path / "checkpoints")
    (path / "checkpoints").mkdir()
    cases["a run without"] = [path]
    for words, given in cases.items():
        refused = command("evaluate", *given)
        assert refused.code == 1
        assert words in refused.said
        assert "Traceback" not in refused.said
