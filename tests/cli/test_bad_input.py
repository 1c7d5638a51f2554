"""Bad input is refused before anything is written: a message with what, where and remedy, and an exit code.

Every case is tried twice: into a new folder, which must not appear, and with --overwrite over a finished run, which
must be left as it is.
"""

import hashlib
import json
import shutil

import pytest

import entrocraft

ROWS = [{"prompt": f"{n} 2 3 4 7 :", "answer": n} for n in range(1, 10)]
FILES = {
    "good.jsonl": "\n".join(map(json.dumps, ROWS)),
    "other.jsonl": '{"prompt": "10 2 3 4 7 :", "answer": 1}',
    "empty.jsonl": "",
    "blank.jsonl": "\n\n",
    "no_prompt.jsonl": '{"prompt": "1 2 3 4 7 :"}\n{"question": "1 2"}\n',
    "number.jsonl": '{"prompt": 3}\n',
    "broken.jsonl": '{"prompt": "1 2 3 4 7 :"}\n\n{"prompt": "1\n',
    "a_list.jsonl": '["1 2 3 4 7 :"]\n',
    "void.jsonl": '{"prompt": ""}\n',
    "unknown_word.jsonl": '{"prompt": "what is 3 + 4 ?"}\n',
    "no_number.jsonl": "\n".join(map(json.dumps, [*ROWS, {**ROWS[0], "answer": "none"}])),
    # The long ones come last in the file, and in the first batch under no seed that a test uses.
    "long.jsonl": "\n".join(map(json.dumps, [*ROWS * 20, {"prompt": "1 " * 60 + ":"}])),
    "unknown_later.jsonl": "\n".join(map(json.dumps, [*ROWS * 20, {"prompt": "1 2 3 4 hm :"}])),
    "talk.jsonl": '{"prompt": [{"role": "user", "content": "1 2 3 4 7 :"}]}',
    "bad_key.yaml": "steps: 3\nrollout: {grup_size: 4}\n",
    "bad_top_key.yaml": "stepz: 3\n",
    "bad_value.yaml": "steps: many\n",
    "no_group.yaml": "model: 3\n",
    "no_mapping.yaml": "- steps\n",
    "not_yaml.yaml": "steps: [3\n",
    "rewards.py": "def ok(prompts, completions, completion_ids, **columns):\n    return [1.0] * len(completions)\n"
    "not_callable = 3\n"
    "def narrow(prompts, completions, completion_ids):\n    return [1.0] * len(completions)\n",
    "needs_missing.py": "import no_such_package\n",
    "no_model/README.md": "no model here",
    "no_tokenizer/config.json": "{}",
}
SMALL = ["--steps=1", "--evaluation.prompts=2", "--evaluation.samples=2"]
FILE = ["--rollout.max_new_tokens=8", "--reward.function=rewards:ok"]

# name: (arguments, words that the message must have)
CASES = {
    "absolute model folder": (["--model.path=/no/such/model"], ["/no/such/model", "does not exist", "model.path"]),
    "relative model folder": (["--model.path=./models/mine"], ["./models/mine", "does not exist", "model.path"]),
    "bare model name": (["--model.path=countdown"], ["countdown-0.2m", "model.path"]),
    "model folder that looks like a hub id": (["--model.path=models/mine"], ["models/mine", "model.path", "hub"]),
    "folder without a model": (["--model.path=no_model"], ["no_model", "model.path"]),
    "folder without a tokenizer": (["--model.path=no_tokenizer"], ["no_tokenizer", "model.path"]),
    "unknown device": (["--model.device=gpu"], ["model.device", "gpu"]),
    "absent device": (["--model.device=cuda:77"], ["model.device", "cuda:77"]),
    "unknown attention": (["--model.attention=fast"], ["attention='fast'", "model.attention: auto, sdpa"]),
    "negative threads": (["--model.threads=-1"], ["model.threads=-1"]),
    "float64 with eager attention": (
        ["--model.dtype=float64", "--model.attention=eager"],
        ["float64", "eager", "model.attention: sdpa"],
    ),
    "directional control of half-precision weights": (
        ["--config=soft_directional", "--model.dtype=bfloat16", "--model.weights=bfloat16"],
        ["influence='directional'", "bfloat16", "model.weights float32"],
    ),
    "unknown dtype": (["--model.dtype=float8"], ["model.dtype", "float8", "bfloat16"]),
    "unknown key": (["--stepz=3"], ["stepz"]),
    "unknown nested key": (["--rollout.grup_size=4"], ["rollout.grup_size"]),
    "unknown key in YAML": (["--config=bad_key.yaml"], ["grup_size", "bad_key.yaml"]),
    "unknown top key in YAML": (["--config=bad_top_key.yaml"], ["stepz", "bad_top_key.yaml"]),
    "wrong value in YAML": (["--config=bad_value.yaml"], ["steps", "many"]),
    "YAML with a value for a group": (["--config=no_group.yaml"], ["model=3", "group of settings"]),
    "YAML that is no mapping": (["--config=no_mapping.yaml"], ["no_mapping.yaml"]),
    "YAML that cannot be read": (["--config=not_yaml.yaml"], ["not_yaml.yaml"]),
    "wrong value": (["--steps=many"], ["steps", "many"]),
    "unknown preset": (["--config", "quickstrat"], ["quickstrat", "quickstart", "released"]),
    "missing YAML": (["--config", "no/such.yaml"], ["no/such.yaml"]),
    "no steps": (["--steps=0"], ["steps=0", "at least 1"]),
    "more mini-batches than prompts": (["--algorithm.mini_batches=33"], ["mini_batches=33", "prompts=32"]),
    "missing prompts": (["--data.prompts=none.jsonl", *FILE], ["none.jsonl", "no such file", "data.prompts"]),
    "missing held-out prompts": (
        ["--data.prompts=good.jsonl", "--data.held_out=none.jsonl", *FILE],
        ["none.jsonl", "no such file"],
    ),
    "empty prompts": (["--data.prompts=empty.jsonl", *FILE], ["empty.jsonl", "at least one prompt"]),
    "blank prompts": (["--data.prompts=blank.jsonl", *FILE], ["blank.jsonl", "at least one prompt"]),
    "row without prompt": (["--data.prompts=no_prompt.jsonl", *FILE], ["no_prompt.jsonl", "2", "data.prompt_column"]),
    "prompt that is no text": (["--data.prompts=number.jsonl", *FILE], ["number.jsonl", "text", "data.prompt_column"]),
    "broken JSON": (["--data.prompts=broken.jsonl", *FILE], ["broken.jsonl", "line 3"]),
    "prompts in another encoding": (["--data.prompts=latin1.jsonl", *FILE], ["latin1.jsonl", "utf-8"]),
    "JSON that is no object": (["--data.prompts=a_list.jsonl", *FILE], ["a_list.jsonl"]),
    "prompt without tokens": (["--data.prompts=void.jsonl", *FILE], ["prompt=''", "got 0"]),
    "unknown word": (["--data.prompts=unknown_word.jsonl", *FILE], ["what is 3 + 4 ?", "tokenizer"]),
    "unknown word later": (["--data.prompts=unknown_later.jsonl", *FILE], ["1 2 3 4 hm :", "tokenizer"]),
    "prompt too long": (
        ["--data.prompts=good.jsonl", *FILE, "--rollout.max_new_tokens=59"],
        ["context 64", "max_new_tokens 59", "got 6", "Shorten"],
    ),
    "prompt too long later": (
        ["--data.prompts=long.jsonl", *FILE],
        ["context 64", "max_new_tokens 8", "got 61", "data.too_long: drop"],
    ),
    "no room for prompts": (
        ["--data.prompts=good.jsonl", "--reward.function=rewards:ok", "--rollout.max_new_tokens=64"],
        ["max_new_tokens=64", "room for a prompt", "64 tokens"],
    ),
    "held-out prompt too long": (
        ["--data.prompts=good.jsonl", "--data.held_out=long.jsonl", "--data.overlap=allow", *FILE],
        ["context 64", "got 61"],
    ),
    "no prompt short enough": (
        ["--data.prompts=good.jsonl", *FILE, "--data.max_prompt_tokens=5", "--data.too_long=drop"],
        ["at most 5 tokens", "none among 9", "the shortest has 6", "raise data.max_prompt_tokens"],
    ),
    "held-out prompts that are trained on": (
        ["--data.prompts=good.jsonl", "--data.held_out={far: other.jsonl, near: good.jsonl}", *FILE],
        ["near", "9 of 9", "1 2 3 4 7 :", "data.overlap: allow"],
    ),
    "prompts of another kind": (["--data.prompts=rewards.py", *FILE], ["rewards.py", ".parquet", "another kind"]),
    "conversation without chat": (["--data.prompts=talk.jsonl", *FILE], ["talk.jsonl", "row 1", "data.chat: true"]),
    "chat without a template": (
        ["--data.prompts=talk.jsonl", "--data.chat=true", *FILE],
        ["data.chat", "chat template", "instruction-tuned"],
    ),
    "system message without chat": (["--data.system=Think."], ["data.system", "data.chat=true"]),
    "missing column": (
        ["--data.prompts=good.jsonl", "--data.columns={target: goal}", *FILE],
        ["['goal']", "['answer', 'prompt']", "data.columns"],
    ),
    "unknown name in the template": (
        ["--data.prompts=good.jsonl", "--data.template={prompt} {goal}", *FILE],
        ["['goal']", "['answer', 'prompt']", "good.jsonl"],
    ),
    "single brace in the template": (["--data.template={prompt} }"], ["data.template", "Write {{ and }}"]),
    "prompts without a length": (["--data.prompts=good.jsonl", *FILE[1:]], ["rollout.max_new_tokens", "0"]),
    "prompts without a reward": (
        ["--data.prompts=good.jsonl", *FILE[:1]],
        ["reward.function", "gsm8k", "module:function"],
    ),
    "unknown task": (["--data.task=chess"], ["data.task", "chess", "countdown"]),
    "no reward module": (["--reward.function=norewards:ok"], ["norewards", "reward.function", "PYTHONPATH"]),
    "no reward in the module": (["--reward.function=rewards:no"], ["rewards:no", "module:name"]),
    "reward without a colon": (["--reward.function=rewards"], ["'rewards'", "module:name"]),
    "reward module that fails": (["--reward.function=needs_missing:ok"], ["needs_missing", "no_such_package"]),
    "reward that cannot be called": (["--reward.function=rewards:not_callable"], ["reward.function", "callable"]),
    "unknown reward": (["--reward.function=gsm8"], ["reward.function", "'gsm8k'?", "boxed_math", "module:name"]),
    "unknown reward among several": (["--reward.function={countdown: 1, fromat: 0.2}"], ["'fromat'", "'format'?"]),
    "no rewards": (["--reward.function={}"], ["reward.function={}", "at least one"]),
    "reward weight that is no number": (["--reward.function={countdown: much}"], ["reward.function", "much"]),
    "reward weight without end": (["--reward.function={countdown: .inf}"], ["{countdown: inf}", "finite"]),
    "punishment as the judge": (
        ["--reward.function={overlong: 1, countdown: 1}", "--reward.options={overlong: {limit: 9}}"],
        ["name first", "overlong", "Put another before it"],
    ),
    "unknown reward option": (
        ["--reward.function=format", "--reward.options={format: {patern: x}}"],
        ["reward.options.format", "'patern'", "'pattern'?"],
    ),
    "reward option left out": (["--reward.function={countdown: 1, overlong: 1}"], ["reward.options.overlong", "limit"]),
    "reward option out of range": (
        ["--reward.function={countdown: 1, overlong: 1}", "--reward.options={overlong: {limit: 0}}"],
        ["overlong(limit=0", "reward.options.overlong"],
    ),
    "reward option that is no pattern": (
        ["--reward.function=format", "--reward.options={format: {pattern: '('}}"],
        ["pattern='('", "regular expression"],
    ),
    "options of a reward without any": (
        ["--reward.function=countdown", "--reward.options={countdown: {a: 1}}"],
        ["'countdown'", "no options", "reward.options.countdown"],
    ),
    "options of a reward not in use": (
        ["--reward.function=format", "--reward.options={overlong: {limit: 9}}"],
        ["reward.options", "'overlong'", "['format']"],
    ),
    "deadline of zero": (["--reward.timeout_s=0"], ["reward.timeout_s=0", "above 0"]),
    "column that a reward needs": (
        ["--data.prompts=good.jsonl", *FILE[:1], "--reward.function={exact_match: 1, countdown: 1}"],
        ["countdown", "'numbers'", "['answer']", "data.columns"],
    ),
    "held-out column that the judge needs": (
        ["--data.prompts=good.jsonl", "--data.held_out=void.jsonl", *FILE[:1], "--reward.function=exact_match"],
        ["exact_match", "'answer'", "have []"],
    ),
    "column that a reward does not take": (
        ["--data.prompts=good.jsonl", *FILE[:1], "--reward.function=rewards:narrow"],
        ["rewards:narrow", "'answer'", "**columns"],
    ),
    "answer without a number": (
        ["--data.prompts=no_number.jsonl", *FILE[:1], "--reward.function=gsm8k"],
        ["gsm8k(answer='none')", "number", "data.columns"],
    ),
    "group of one": (["--rollout.group_size=1"], ["at least 2", "group_size", "reinforce"]),
    "band upside down": (["--band.start=[0.9,0.2]"], ["band.start", "0.9", "0.2", "low <= high"]),
    "band end upside down": (["--band.end=[0.9,0.2]"], ["band.end", "low <= high"]),
    "schedule without points": (["--band.schedule=piecewise"], ["band.options", "points or file"]),
    "no schedule file": (
        ["--band.schedule=piecewise", "--band.options={file: none.csv}"],
        ["band.options", "none.csv", "no such file"],
    ),
    "warm start beyond the run": (["--band.warm_start=20"], ["band.warm_start=20", "[0, 1]"]),
    "unknown schedule": (["--band.schedule=steps"], ["band.schedule", "linear", "cosine"]),
    "unknown filter": (["--algorithm.filter=alg1"], ["algorithm.filter", "alg1", "algorithm1", "module:name"]),
    "unknown advantage": (["--algorithm.advantage=gae"], ["algorithm.advantage", "gae", "grpo"]),
    "unknown option": (["--algorithm.clip_options={lo: 0.1}"], ["algorithm.clip_options", "lo"]),
    "option out of range": (["--algorithm.clip_options={low: 2.0}"], ["PPOClip", "low=2.0"]),
    "options for a function": (["--algorithm.filter_options={a: 1}"], ["algorithm.filter", "no options"]),
    "temperature of zero": (["--rollout.temperature=0"], ["temperature > 0", "0"]),
    "unknown evaluation setting": (["--evaluation.settings=[gredy]"], ["evaluation.settings", "gredy", "paper"]),
    "evaluation setting out of range": (
        ["--evaluation.sampling={warm: {temperature: 0.8}, hot: {temperature: 0}}"],
        ["evaluation.sampling.hot", "temperature > 0"],
    ),
    "no evaluation samples": (["--evaluation.samples=0"], ["evaluation.samples"]),
    "checkpoints to keep below zero": (["--checkpoint.keep=-1"], ["checkpoint.keep", "-1"]),
    "checkpoints below zero": (["--checkpoint.every=-1"], ["checkpoint.every", "-1"]),
    "warm-up below zero": (["--optimizer.warmup=-1"], ["optimizer.warmup", "-1"]),
    "bare resume and overwrite": (["--overwrite", "--resume"], ["resume", "overwrite", "both"]),
    "resume and overwrite": (["--resume=true", "--overwrite=true"], ["resume", "overwrite", "both"]),
}


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "latin1.jsonl").write_bytes('{"prompt": "1 2 3 4 7 :", "name": "é"}\n'.encode("latin1"))
    shipped = entrocraft.load("trainer.model").SHIPPED["countdown-0.2m"]
    for name in ("config.json", "model.safetensors"):
        shutil.copy(shipped / name, folder / "no_tokenizer" / name)
    return folder


@pytest.fixture
def here(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def assert_refused(run, words):
    assert run.code not in (0, None)
    message = run.said.rsplit("\r", 1)[-1]
    assert "Traceback" not in message
    assert [word for word in words if word not in message] == [], message[-1500:]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace(" ", "-"))
def test_it_is_refused_and_nothing_is_written(case, here, tiny, command, tmp_path):
    given, words = [*SMALL, *CASES[case][0]], CASES[case][1]
    assert_refused(command("train", f"--output={tmp_path / 'new'}", *given), words)
    assert not (tmp_path / "new").exists()
    if "resume and overwrite" in case:
        return
    old = tiny().path
    before = contents(old)
    assert_refused(command("train", f"--output={old}", "--overwrite=true", *given), words)
    assert contents(old) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_left_alone(command, tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    run = command("train", f"--output={tmp_path}", f"--overwrite={str(overwrite).lower()}")
    assert_refused(run, [str(tmp_path), "Remove it yourself" if overwrite else "--overwrite"])
    assert contents(tmp_path).keys() == {"thesis.tex"}
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_is_not_overwritten_by_accident(command, tiny):
    old = tiny().path
    before = contents(old)
    assert_refused(command("train", f"--output={old}"), [str(old), "--resume to", "--overwrite to"])
    assert contents(old) == before


def test_an_output_that_is_a_file_is_refused(command, tmp_path):
    (tmp_path / "notes").write_text("notes")
    for more in ([], ["--overwrite=true"], ["--resume=true"]):
        assert_refused(command("train", f"--output={tmp_path / 'notes'}", *more), [str(tmp_path / "notes")])
    assert (tmp_path / "notes").read_text() == "notes"


def test_a_folder_of_other_files_is_no_run_to_resume(command, tmp_path):
    (tmp_path / "config.yaml").write_text("steps: 1")
    assert_refused(command("train", f"--output={tmp_path}", "--resume"), ["to resume", "other files"])
    assert contents(tmp_path).keys() == {"config.yaml"}


def test_a_run_is_not_resumed_with_other_settings(command, tiny):
    old = tiny().path
    before = contents(old)
    config = ["--config", old / "config.yaml", "--resume=true"]
    changed = ["--rollout.group_size=8", "--algorithm.clip_options={low: 0.1}", "--optimizer.learning_rate=0.001"]
    run = command("train", *config, *changed, "--log.tensorboard=false", "--steps=4")
    differ = ["rollout.group_size: 4 -> 8", "optimizer.learning_rate: 0.0001 -> 0.001", "steps: 3 -> 4"]
    assert_refused(run, [*differ, "clip_options.low: not set -> 0.1", "config.yaml", "--resume", "--model.path"])
    assert "tensorboard" not in run.said
    assert contents(old) == before
