"""`entrocraft train --dry-run`: what a run needs, from the model's configuration alone, and nothing written."""

import json
import re

import pytest
import transformers
import yaml

# As its model card has it.
QWEN3_06B = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
PROMPTS = ["--data.prompts=owner/name", "--data.max_prompt_tokens=512", "--rollout.max_new_tokens=1024"]
REWARD = ["--reward.function=nowhere:reward"]


@pytest.fixture
def qwen(tmp_path):
    """A folder with the configuration of Qwen3-0.6B and nothing else."""
    transformers.Qwen3Config(**QWEN3_06B).save_pretrained(tmp_path / "qwen")
    return tmp_path / "qwen"


def gib(printed):
    return float(re.search(r"^peak +([\d.]+) GiB", printed, re.M)[1])


def test_it_says_what_a_run_needs_and_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = command("train", "--config=quickstart", "--dry-run", "--model.device=cpu")
    assert told.code == 0, told.said
    assert not list(tmp_path.iterdir())
    assert "203,936 parameters, 203,936 trained" in told.printed
    assert "192 of prompts, 3,328 generated, 3,328 trained" in told.printed
    assert "240 steps, 7,680 prompts" in told.printed
    assert re.search(r"^peak +[\d.]+ MiB", told.printed, re.M)
    assert "device " not in told.printed
    bands = "step 0 [0.92, 1.08], step 120 [0.77, 0.925], step 239 [0.6213, 0.7713]"
    assert f"band        linear, in units of the base model's entropy: {bands}\n" in told.printed


def test_it_says_what_the_band_will_be(command):
    given = ["--band.unit=nats", "--band.start=[5,6]", "--band.warm_start=0.1"]
    told = command("train", "--config=quickstart", "--dry-run", *given)
    assert "before step 24 on the way there from the first batch's entropy" in told.printed
    assert "above log V = 4.66 nats, which no entropy reaches, in 19 of 240 steps" in told.printed


def test_the_configuration_alone_is_enough(command, qwen):
    given = [f"--model.path={qwen}", *PROMPTS, *REWARD, "--model.dtype=bfloat16", "--model.lora_rank=8"]
    told = command("train", *given, "--dry-run", "--device-memory=1000")
    assert told.code == 0, told.said
    assert "596,049,920 parameters, 5,046,272 trained, LoRA of rank 8" in told.printed
    assert "it fits" in told.printed


def test_passes_over_prompts_in_a_file(command, tmp_path):
    rows = [{"prompt": f"{n} 2 3 4 7 :"} for n in range(1, 9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = [f"--data.prompts={tmp_path / 'rows.jsonl'}", "--rollout.max_new_tokens=13", *REWARD]
    told = command("train", *given, "--dry-run", "--steps=3", "--rollout.prompts=4")
    assert told.code == 0, told.said
    assert "12 prompts, 1.50 passes over 8 prompts" in told.printed


def test_what_would_make_it_fit_does(command, qwen):
    """The settings that it names, given to the same command, bring the run to the memory that it said."""
    given = ["train", f"--model.path={qwen}", *PROMPTS, *REWARD, "--dry-run", "--device-memory=80"]
    told = command(*given)
    assert "it does not fit" in told.printed
    lines = re.findall(r"^  (--\S+) +([\d.]+) GiB(, changes the run)?$", told.printed, re.M)
    assert lines
    assert not lines[0][2]
    peaks = [float(peak) for _, peak, _ in lines]
    again = command(*given, *(setting for setting, _, _ in lines))
    assert "it fits" in again.printed, again.printed
    assert gib(again.printed) == peaks[-1] <= 72 < gib(told.printed)


def test_evaluation_decodes_too(command):
    """More rows at once than a step has: 2 x 4 rollouts against 4 x 32 completions, of which 96 together."""
    small = ["--rollout.prompts=2", "--algorithm.mini_batches=1", "--rollout.group_size=4", "--evaluation.prompts=4"]
    for rows, decoded in ((96, 96), (1024, 128), (3, 8)):
        told = command("train", "--dry-run", *small, f"--evaluation.rows_at_once={rows}")
        assert f"; {decoded} completions decoded at once" in told.printed, told.said


def test_without_held_out_prompts_nothing_is_evaluated(command, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1 2 3 4 7 :"}')
    given = [f"--data.prompts={tmp_path / 'rows.jsonl'}", "--rollout.max_new_tokens=13", *REWARD]
    told = command("train", *given, "--dry-run", "--rollout.prompts=4", "--rollout.group_size=2")
    assert "evaluation  none" in told.printed, told.said
    assert "; 8 completions decoded at once" in told.printed


def test_shards_are_smaller_than_copies(command, qwen):
    given = ["train", f"--model.path={qwen}", *PROMPTS, *REWARD, "--dry-run", "--processes=4"]
    copies, shards = (command(*given, f"--model.parallel={kind}").printed for kind in ("ddp", "fsdp2"))
    for printed in (copies, shards):
        assert "4 processes" in printed
        assert "GiB of each process" in printed
    sizes = [float(re.search(r"optimizer state +([\d.]+)", printed)[1]) for printed in (copies, shards)]
    assert sizes[1] == pytest.approx(sizes[0] / 4, abs=0.01)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--model.path=owner/name", "--data.max_prompt_tokens=8"], ["owner/name", "model.path", "hub"]),
        (["--model.path=/no/such"], ["/no/such", "model.path"]),
        (["--data.max_prompt_tokens=60"], ["60", "13", "64", "Lower"]),
        (["--rollout.group_size=1"], ["group_size"]),
        (["--processes=0"], ["processes"]),
    ],
    ids=lambda value: value[0].split("=")[0].strip("-") if isinstance(value, list) else None,
)
def test_it_refuses_what_the_run_would_refuse(command, given, words):
    refused = command("train", "--dry-run", *given)
    assert refused.code != 0
    assert [word for word in words if word not in refused.said] == []


def test_its_options_are_no_settings_of_a_run(command):
    assert "--dry-run" in command("train", "--processes=2").said
    shown = command("train", "--print_config").printed
    assert yaml.safe_load(shown).keys().isdisjoint({"dry_run", "processes", "device_memory"})
