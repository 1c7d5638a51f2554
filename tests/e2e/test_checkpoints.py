"""Checkpoints are models that anyone can load, and only complete ones count."""

import json
import shutil

import peft
import pytest
import torch
import transformers

import entrocraft
from trainer import checkpoint as checkpoint_module
from trainer import model as models
from trainer.checkpoint import RunState, checkpoints, last_whole_checkpoint, save_checkpoint


@pytest.fixture
def texts():
    return ["1 2 3 4 7 : 3 + 4 7", "9 9 9 9 81 : 9 * 9 81"]


def logits_of(model, tokenizer, texts):
    with torch.no_grad():
        return [model(torch.tensor([tokenizer(text).input_ids])).logits for text in texts]


def test_a_checkpoint_is_the_trained_policy(tmp_path, monkeypatch, texts, base_weights):
    """Bit for bit under the attention it was trained with, and to rounding under transformers' default."""
    seen = {}
    save = models.Policy.save

    def remember(policy, folder, weights=None):
        seen["logits"] = logits_of(policy.model, policy.tokenizer, texts)
        seen["ids"], seen["text"] = policy.encode(texts), policy.decode([[5, 6, 7], [8, 0]])
        save(policy, folder, weights)

    monkeypatch.setattr(models.Policy, "save", remember)
    cpu = {"model": {"device": "cpu"}}
    settings = {"output": str(tmp_path / "run"), "steps": 2, "evaluation": {"prompts": 0}, **cpu}
    entrocraft.train({**settings, "rollout": {"prompts": 4, "group_size": 8}, "optimizer": {"learning_rate": 1e-3}})
    folder = tmp_path / "run" / "checkpoints" / "step_2"
    same = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa_float64")
    default = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert default.dtype == torch.float32
    assert [list(ids) for ids in tokenizer(texts).input_ids] == seen["ids"]
    assert tokenizer.batch_decode([[5, 6, 7], [8]]) == seen["text"]
    assert all(torch.equal(a, b) for a, b in zip(logits_of(same, tokenizer, texts), seen["logits"], strict=True))
    for a, b in zip(logits_of(default, tokenizer, texts), seen["logits"], strict=True):
        assert float((a - b).abs().max()) < 1e-5
    base = transformers.AutoModelForCausalLM.from_pretrained(models.SHIPPED["countdown-0.2m"])
    assert float((logits_of(base, tokenizer, texts)[0] - seen["logits"][0]).abs().max()) > 1e-2


def test_a_checkpoint_needs_nothing_of_ours(tiny):
    """Our attention's name stays out of the files: where it is not registered, they must load too."""
    for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
        text = (tiny().last / file).read_text()
        assert "sdpa_float64" not in text
        assert "entrocraft" not in text
        assert json.loads(text)


@pytest.mark.parametrize(("keep", "left"), [("2", [3, 4]), ("1", [4]), ("0", [1, 2, 3, 4])])
def test_keep_deletes_the_oldest(tiny, keep, left):
    run = tiny({"checkpoint.every": "1", "checkpoint.keep": keep, "steps": "4"})
    folder = run.path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == [f"step_{step}" for step in left]


def test_checkpoints_are_ordered_by_number_and_half_written_ones_do_not_count(tiny, copied):
    folder = copied(tiny()) / "checkpoints"
    for name in ("step_9", "step_10", "step_11.new", "step_x"):
        shutil.copytree(folder / "step_3", folder / name)
    assert [path.name for path in checkpoints(folder)] == ["step_3", "step_9", "step_10"]


def test_nothing_in_a_checkpoint_is_pickled(tiny):
    """Reading a pickle can run any code; a state that could not be read without is refused when it is written."""
    kinds = {path.suffix for path in tiny().last.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ""}
    assert [path.name for path in tiny().last.iterdir() if not path.suffix] == ["SHA256SUMS"]


def test_a_kill_while_saving_leaves_the_older_checkpoint_and_no_rubbish(tiny, tmp_path, monkeypatch, command):
    """An interrupt in the middle of a save removes what it wrote; a kill there leaves it, as put back here."""
    settings = {"steps": "4", "checkpoint.every": "2"}
    whole = tiny(settings)
    saved, write = [], checkpoint_module.write_hashes

    def die_at_the_second(folder):
        saved.append(1)
        if len(saved) == 2:
            shutil.copytree(folder, tmp_path / "left")
            raise KeyboardInterrupt
        write(folder)

    monkeypatch.setattr(checkpoint_module, "write_hashes", die_at_the_second)
    run = tiny(settings, output=tmp_path / "run", expect=130)
    folder = run.path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step_2"]
    monkeypatch.setattr(checkpoint_module, "write_hashes", write)
    for unfinished in ("step_4.new", "step_3.new"):  # the second as left by an interrupt's own checkpoint
        shutil.copytree(tmp_path / "left", folder / unfinished)
    resumed = command("train", "--config", run.path / "config.yaml", "--resume", path=run.path)
    assert resumed.code == 0, resumed.said
    assert sorted(path.name for path in folder.iterdir()) == ["step_2", "step_4"]
    assert resumed.weights == whole.weights
    assert resumed.timeless == whole.timeless


DAMAGE = {
    "truncated weights": ("model.safetensors", lambda content: content[:-100], "does not match its SHA-256"),
    "a flipped bit": ("trainer_state.safetensors", lambda content: content[:-9] + b"!" + content[-8:], "SHA-256"),
    "an empty file": ("trainer_state.json", lambda content: b"", "does not match its SHA-256"),
    "a missing file": ("config.json", None, "config.json is missing"),
    "a list cut short": ("SHA256SUMS", lambda content: b"".join(content.splitlines(True)[:-2]), "cut short"),
    "no list": ("SHA256SUMS", None, "SHA256SUMS is missing"),
}


def spoil(file, change):
    file.unlink() if change is None else file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize("case", DAMAGE, ids=lambda case: case.replace(" ", "-"))
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(case, tiny, copied, command):
    """Keeping one: the damaged one, later by number, must not crowd out what is saved as the run goes on."""
    whole = tiny({"steps": "4", "checkpoint.every": "2"})
    path = copied(whole)
    name, change, fault = DAMAGE[case]
    spoil(path / "checkpoints" / "step_4" / name, change)
    arguments = ["train", "--config", path / "config.yaml", f"--output={path}", "--resume", "--checkpoint.keep=1"]
    resumed = command(*arguments, path=path)
    assert resumed.code == 0, resumed.said
    [warning] = [line for line in resumed.said.splitlines() if "damaged" in line]
    for words in ("step_4", name, fault, "Going on from step_2"):
        assert words in warning
    assert [path.name for path in (path / "checkpoints").iterdir()] == ["step_4"]
    assert resumed.weights == whole.weights
    assert resumed.timeless == whole.timeless


def test_a_damaged_later_checkpoint_does_not_crowd_out_the_last_good_one(tmp_path):
    def save(step):
        save_checkpoint(tmp_path, lambda folder: (folder / "weights").write_text("w"), {}, RunState(step=step), keep=1)

    for step in (2, 4, 6):
        save(step)
    (tmp_path / "step_6" / "weights").write_text("damaged")
    shutil.copytree(tmp_path / "step_6", tmp_path / "step_8")
    save(4)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_4"]
    assert last_whole_checkpoint(tmp_path) == tmp_path / "step_4"


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ((2, 4, 6), [4, 6]),
        ((2, 4, 5), [4, 5]),
        ((2, 4, 5, 6), [4, 6]),
        ((2, 4, 6, 7, 8), [6, 8]),
        ((2, 3, 4, 5, 6), [4, 6]),
        ((4, 5, 7), [4, 7]),
        ((2, 4, 6, 9), [6, 9]),  # a last one between
    ],
)
def test_what_an_interrupt_saved_takes_no_others_place(tmp_path, steps, left):
    """Whoever asked for the last of every so many steps has them, however often the run was stopped."""
    for step in steps:
        save_checkpoint(tmp_path, lambda folder: None, {}, RunState(step=step), keep=2, every=2)
    assert [path.name for path in checkpoints(tmp_path)] == [f"step_{step}" for step in left]


def test_all_are_kept_where_all_are_asked_for(tmp_path):
    for step in (2, 3, 4):
        save_checkpoint(tmp_path, lambda folder: None, {}, RunState(step=step), keep=0, every=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_2", "step_3", "step_4"]


def test_a_run_never_starts_again_because_all_its_checkpoints_are_damaged(tiny, copied, command):
    path = copied(tiny({"steps": "4", "checkpoint.every": "2"}))
    spoil(path / "checkpoints" / "step_4" / "trainer_state.json", None)
    spoil(path / "checkpoints" / "step_2" / "model.safetensors", lambda content: content[:1000])
    before = (path / "metrics.jsonl").read_bytes()
    refused = command("train", "--config", path / "config.yaml", f"--output={path}", "--resume")
    assert refused.code == 1
    for words in ("step_4 (trainer_state.json is missing)", "step_2 (model.safetensors does not", "--overwrite"):
        assert words in refused.said
    assert (path / "metrics.jsonl").read_bytes() == before


def test_rows_that_are_lost_are_no_reason_to_go_on(tiny, copied, command):
    path = copied(tiny({"steps": "4", "checkpoint.every": "2"}))
    lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[1:]))
    refused = command("train", "--config", path / "config.yaml", f"--output={path}", "--resume")
    assert refused.code == 1
    assert "each of the 4 steps before the checkpoint; got 3" in refused.said


def test_lora_checkpoints_hold_the_adapter_and_resume(tiny, command, tmp_path):
    settings = {"model.lora_rank": "2", "optimizer.learning_rate": "1e-2", "checkpoint.every": "2"}
    run = tiny({**settings, "evaluation.prompts": "4"})
    tensors = sorted(path.name for path in run.last.iterdir() if path.suffix == ".safetensors")
    assert tensors == ["adapter_model.safetensors", "trainer_state.safetensors"]
    # In the order of a set, which is another one in another process, a resumed run's checkpoint would not be the same.
    layers = json.loads((run.last / "adapter_config.json").read_text())["target_modules"]
    assert layers == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    loaded = peft.AutoPeftModelForCausalLM.from_pretrained(run.last)
    adapter = [value for name, value in loaded.named_parameters() if "lora_B" in name]
    assert adapter
    assert any(bool(value.any()) for value in adapter)
    killed = tiny({**settings, "evaluation.prompts": "4"}, output=tmp_path / "run")
    shutil.rmtree(killed.last)
    (killed.path / "summary.json").unlink()
    resumed = command("train", "--config", killed.path / "config.yaml", "--resume=true", path=killed.path)
    assert resumed.code == 0, resumed.said
    assert resumed.timeless == run.timeless
    file = "adapter_model.safetensors"
    assert (resumed.last / file).read_bytes() == (run.last / file).read_bytes()
