"""Base models: made twice they are equal, and the shipped one is the one that was recorded."""

import shutil

import pytest
import transformers

from trainer import model as models
from trainer.hashes import damage

SMALL = ["--iterations=3", "--batch_size=8", "--hidden=16", "--layers=1", "--heads=2", "--feed_forward=16"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_call_makes_the_same_files(command, tmp_path):
    for name in ("one", "two"):
        made = command("pretrain", f"--output={tmp_path / name}", *SMALL)
        assert made.code == 0, made.said
        assert made.printed == f"base model: {tmp_path / name}\n"
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two
    *recorded, last = one["SHA256SUMS"].decode().splitlines()
    assert {line.split()[1] for line in recorded} == one.keys() - {"SHA256SUMS"}
    assert last == f"# {len(recorded)} files"
    assert damage(tmp_path / "one") is None
    command("pretrain", f"--output={tmp_path / 'three'}", *SMALL, "--seed=1")
    other = contents(tmp_path / "three")
    assert other["model.safetensors"] != one["model.safetensors"]
    assert other["tokenizer.json"] == one["tokenizer.json"]
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "one")


def test_a_base_model_can_be_trained(command, tmp_path):
    assert command("pretrain", f"--output={tmp_path / 'base'}", *SMALL).code == 0
    small = ["--rollout.prompts=4", "--rollout.group_size=4", "--steps=1", "--evaluation.prompts=0"]
    run = command("train", f"--model.path={tmp_path / 'base'}", f"--output={tmp_path / 'run'}", *small)
    assert run.code == 0, run.said


def test_a_folder_with_files_is_refused(command, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    made = command("pretrain", f"--output={tmp_path}", *SMALL)
    assert made.code == 1
    assert "new or empty folder" in made.said
    assert str(tmp_path) in made.said
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_an_output_that_is_a_file_is_refused_at_once(command, tmp_path):
    (tmp_path / "base").write_text("mine")
    made = command("pretrain", f"--output={tmp_path / 'base'}", *SMALL)
    assert made.code == 1
    assert str(tmp_path / "base") in made.said
    assert "pretrain:   0%" not in made.said
    assert (tmp_path / "base").read_text() == "mine"


def test_one_that_is_interrupted_while_it_saves_can_be_made_again(command, tmp_path, monkeypatch):
    call = ("pretrain", f"--output={tmp_path / 'base'}", *SMALL)
    saved = []

    def interrupted(folder):
        saved.extend(path.name for path in folder.iterdir())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trainer.pretrain.write_hashes", interrupted)
        assert command(*call).code == 130
    assert "model.safetensors" in saved
    assert not list(tmp_path.iterdir())
    made = command(*call)
    assert made.code == 0, made.said
    assert damage(tmp_path / "base") is None


def test_an_unknown_task_is_refused(command, tmp_path):
    made = command("pretrain", f"--output={tmp_path / 'base'}", *SMALL, "--task=chess")
    assert made.code == 1
    assert "chess" in made.said
    assert "countdown" in made.said
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_tampered_shipped_model_is_refused(command, tmp_path, monkeypatch, file):
    copy = shutil.copytree(models.SHIPPED["countdown-0.2m"], tmp_path / "copy")
    monkeypatch.setitem(models.SHIPPED, "countdown-0.2m", copy)
    small = ["--rollout.prompts=4", "--rollout.group_size=2", "--steps=1", "--evaluation.prompts=0"]
    assert command("train", f"--output={tmp_path / 'good'}", *small).code == 0
    content = bytearray((copy / file).read_bytes())
    content[-20] ^= 1
    (copy / file).write_bytes(content)
    run = command("train", f"--output={tmp_path / 'run'}", *small)
    assert run.code == 1
    for word in (file, "SHA256SUMS", "Reinstall"):
        assert word in run.said
    assert not (tmp_path / "run").exists()


def test_the_shipped_models_hashes_cover_all_of_its_files():
    folder = models.SHIPPED["countdown-0.2m"]
    *recorded, _ = (folder / "SHA256SUMS").read_text().splitlines()
    assert {line.split()[1] for line in recorded} == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert damage(folder) is None
