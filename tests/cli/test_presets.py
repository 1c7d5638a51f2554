"""Presets: all can be read, several layer in order, and they fit the memory that their comments state."""

import re

import pytest
import torch
import transformers
import yaml

from trainer.parsing import PRESETS, PRETRAIN_PRESETS, as_yaml, described_presets, load_config

MODELS = {
    "Qwen/Qwen3-0.6B": (1024, 3072, 28, 16),
    "Qwen/Qwen3-1.7B": (2048, 6144, 28, 16),
    "Qwen/Qwen3-4B-Base": (2560, 9728, 36, 32),
}


@pytest.mark.parametrize("name", described_presets())
def test_every_preset_can_be_read_and_says_what_it_is(name):
    assert load_config("--config", name) != load_config()
    assert re.fullmatch(r"[A-Z].{20,}[.:\w]", described_presets()[name])
    assert (PRESETS / f"{name}.yaml").read_text().startswith("# ")


# These state all of what they are, so that one replaces another.
WHOLE = ("paper-band", "paper-evaluation")


@pytest.mark.parametrize("name", [name for name in described_presets() if not name.startswith(WHOLE)])
def test_a_preset_states_only_differences(name):
    def same(stated, default, prefix=""):
        for key, value in stated.items():
            if isinstance(value, dict) and isinstance(default.get(key), dict) and default[key]:
                yield from same(value, default[key], f"{prefix}{key}.")
            elif value == default[key]:
                yield prefix + key

    stated = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    assert list(same(stated, yaml.safe_load(as_yaml(load_config())))) == []


def test_the_listing(command):
    shown = command("presets")
    assert shown.code == 0
    for folder in (PRESETS, PRETRAIN_PRESETS):
        for name, about in described_presets(folder).items():
            assert re.search(rf"^  {re.escape(name)} +{re.escape(about)}$", shown.printed, re.M)
    assert "entrocraft presets" in command("train", "--help").printed


def test_several_in_order():
    both = load_config("--config", "paper-4b", "--config", "gspo", "--config=paper-band-gspo", "--band.start=[0.5,0.6]")
    assert (both.algorithm.clip, both.algorithm.filter, both.algorithm.kl) == ("gspo", "algorithm1", 1e-3)
    assert (both.band.start, both.band.end, both.band.unit) == ((0.5, 0.6), (0.2, 0.3), "nats")
    assert (both.rollout.prompts, both.optimizer.learning_rate, both.algorithm.mini_batches) == (1024, 1e-6, 4)
    other = load_config("--config", "one-gpu", "--config", "gsm8k-1.7b")
    assert (other.model.device, other.rollout.slots) == ("cuda", load_config("--config", "gsm8k-1.7b").rollout.slots)


def test_the_papers_evaluation():
    chosen = load_config("--config", "paper-4b").evaluation
    assert (chosen.samples, chosen.settings, chosen.every) == (32, ("paper",), 5)


@pytest.mark.parametrize("name", ["gsm8k-0.6b", "gsm8k-1.7b", "math-0.6b", "math-1.7b", "paper-4b"])
def test_the_memory_in_the_comment_is_the_dry_runs(name, command, tmp_path):
    stated, device = re.search(r"([\d.]+) GiB of (\d+)", (PRESETS / f"{name}.yaml").read_text()).groups()
    hidden, feed_forward, layers, heads = MODELS[load_config("--config", name).model.path]
    size = {"hidden_size": hidden, "intermediate_size": feed_forward, "num_hidden_layers": layers}
    size |= {"num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
    transformers.Qwen3Config(**size, max_position_embeddings=32768, tie_word_embeddings=True).save_pretrained(tmp_path)
    processes = "--processes=8" if name == "paper-4b" else "--processes=1"
    told = command(
        "train", "--config", name, "--dry-run", f"--model.path={tmp_path}", f"--device-memory={device}", processes
    )
    assert told.code == 0, told.said
    assert "it fits" in told.printed
    peak = re.search(r"^peak +([\d.]+) GiB", told.printed, re.M)[1]
    assert f"{float(peak):.1f}" == stated


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(command, tmp_path):
    run = command("train", f"--output={tmp_path / 'run'}", "--config=quickstart", "--config=one-gpu")
    assert run.code == 1
    for word in ("model.device='cuda'", "Set it to auto, cpu"):
        assert word in run.said
    assert not (tmp_path / "run").exists()


def test_an_attention_that_is_not_installed_is_refused(command, tmp_path):
    run = command("train", f"--output={tmp_path / 'run'}", "--model.attention=flash_attention_2")
    assert run.code == 1
    for word in ("flash_attention_2", "not installed", "model.attention: sdpa"):
        assert word in run.said
    assert not (tmp_path / "run").exists()


def test_a_preset_of_pretraining(command, tmp_path):
    """Its shape in a few steps, with the output's name overridden."""
    small = ["--iterations=1", "--batch_size=2", "--hidden=32", "--heads=2", "--feed_forward=16"]
    made = command("pretrain", "--config", "countdown-large", *small, f"--output={tmp_path / 'base'}", "--device=cpu")
    assert made.code == 0, made.said
    assert transformers.AutoConfig.from_pretrained(tmp_path / "base").num_hidden_layers == 12
    unknown = command("pretrain", "--config", "countdown-huge")
    assert unknown.code == 1
    assert "countdown-large" in unknown.said
    assert "recipe" not in unknown.said
