"""`entrocraft export`: any program reads what it writes, and it is the model of the checkpoint."""

import json
import shutil

import peft
import pytest
import torch
import transformers

from trainer.model import SHIPPED

LORA = {"model.lora_rank": "4", "optimizer.learning_rate": "0.05", "steps": "2"}
TOKENS = torch.arange(2, 22)[None]


def logits(model):
    with torch.no_grad():
        return model.float()(input_ids=TOKENS).logits


@pytest.fixture
def adapters(tiny):
    """A checkpoint of adapters that were trained, and the logits of their model."""
    checkpoint = tiny(LORA).last
    base = transformers.AutoModelForCausalLM.from_pretrained(SHIPPED["countdown-0.2m"])
    start = logits(base)
    return checkpoint, start, logits(peft.PeftModel.from_pretrained(base, checkpoint))


def test_adapters_are_merged_into_their_base(adapters, command, tmp_path):
    checkpoint, start, trained = adapters
    made = command("export", checkpoint, tmp_path / "out")
    assert made.code == 0, made.said
    assert f"adapters merged: {tmp_path / 'out'}" in made.printed
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(loaded).__name__ == "Qwen3ForCausalLM"
    largest = float(trained.abs().max())
    assert float((logits(loaded) - trained).abs().max()) < 1e-5 * largest < float((trained - start).abs().max())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert not names & {"trainer_state.pt", "adapter_config.json", "adapter_model.safetensors", "SHA256SUMS"}
    assert not list(tmp_path.glob("*.new"))


def test_a_checkpoint_of_all_weights_keeps_them_and_its_tokenizer(tiny, command, tmp_path):
    checkpoint = shutil.copytree(tiny().last, tmp_path / "checkpoint")
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "SHA256SUMS").unlink()
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "{{ messages }}!"}))
    (tmp_path / "out").mkdir()
    made = command("export", checkpoint, tmp_path / "out", "--dtype=bfloat16")
    assert made.code == 0, made.said
    assert "adapters" not in made.printed
    assert transformers.AutoConfig.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    loaded, old = (transformers.AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "out", checkpoint))
    for new, given in zip(loaded.parameters(), old.parameters(), strict=True):
        assert new.dtype == torch.bfloat16
        assert torch.equal(new, given.bfloat16())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == "{{ messages }}!"
    assert tokenizer("3 7 + :").input_ids == transformers.AutoTokenizer.from_pretrained(checkpoint)("3 7 + :").input_ids


def test_of_a_run_the_latest_checkpoint_is_taken(tiny, command, tmp_path):
    assert command("export", tiny().path, tmp_path / "run").code == 0
    assert command("export", tiny().last, tmp_path / "checkpoint").code == 0
    made = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "checkpoint")]
    assert made[0] == made[1]


def test_an_output_with_files_is_refused(tiny, command, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    refused = command("export", tiny().last, tmp_path)
    assert refused.code == 1
    assert "new or empty folder" in refused.said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_checkpoint_is_refused(tiny, command, tmp_path):
    checkpoint = shutil.copytree(tiny().last, tmp_path / "checkpoint")
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)
    refused = command("export", checkpoint, tmp_path / "out")
    assert refused.code == 1
    assert "model.safetensors does not match" in refused.said
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_said(adapters, command, tmp_path):
    assert "no_such" in command("export", tmp_path / "no_such", tmp_path / "out").said
    moved = shutil.copytree(adapters[0], tmp_path / "moved")
    saved = json.loads((moved / "adapter_config.json").read_text())
    (moved / "SHA256SUMS").unlink()
    (moved / "adapter_config.json").write_text(json.dumps({**saved, "base_model_name_or_path": "/no/base"}))
    refused = command("export", moved, tmp_path / "out")
    assert refused.code == 1
    for word in ("/no/base", "--base"):
        assert word in refused.said
    assert not (tmp_path / "out").exists()
    assert command("export", moved, tmp_path / "out", "--base=countdown-0.2m").code == 0


def test_a_model_that_came_out_otherwise_is_not_written(adapters, command, tmp_path, monkeypatch):
    """Planted: merging loses the adapters."""
    monkeypatch.setattr(peft.PeftModel, "merge_and_unload", lambda self: self.unload(), raising=False)
    refused = command("export", adapters[0], tmp_path / "out")
    assert refused.code == 1
    assert "must keep the logits" in refused.said
    assert not list(tmp_path.iterdir())
