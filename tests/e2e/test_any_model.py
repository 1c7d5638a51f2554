"""Any causal language model in Hugging Face format, with a user's own prompts and reward."""

import json
import shutil
import sys

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers import decoders as token_decoders

import entrocraft

CORPUS = ["Add 3 and 4.", "What is the sum of twelve and thirty?", "Answer: 42", "the quick brown fox\njumps öäü"]
REWARD = '''
"""A user's file: it is given each prompt's own columns, row by row."""

def reward(prompts, completions, completion_ids, *, answer, tags, question, **columns):
    assert not columns, columns
    assert len(prompts) == len(completions) == len(completion_ids) == len(answer) == len(tags)
    for prompt, a, tag, q in zip(prompts, answer, tags, question):
        assert prompt == q and a == len(q) and tag == [q[:1]], (prompt, a, tag)
    return [float((sum(ids) + a) % 5 > 2) for ids, a in zip(completion_ids, answer)]
'''


def tokenizer_for(kind):
    """A byte-level BPE tokenizer learnt here; `llama`: no pad token, and a first token added to every prompt."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = token_decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"] if kind == "llama" else ["<|end|>", "<|pad|>"]
    inner.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    if kind == "llama":
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>")


def model_for(kind, tokenizer):
    """A random model of about 10 000 weights; the first has more rows of embeddings than there are tokens."""
    size = {"vocab_size": len(tokenizer) + 20 * (kind == "llama"), "eos_token_id": tokenizer.eos_token_id}
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape |= {"intermediate_size": 32, "max_position_embeddings": 128, "initializer_range": 0.3}
    torch.manual_seed(3)
    with torch.random.fork_rng():
        if kind == "llama":
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, **shape, tie_word_embeddings=False))
        if kind == "qwen3":
            return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**size, **shape, head_dim=8))
        small = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, **small))


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def folder(request, tmp_path_factory):
    """A user's folder: a model, prompts of different lengths with further columns, and a reward."""
    path = tmp_path_factory.mktemp(request.param)
    tokenizer = tokenizer_for(request.param)
    assert (tokenizer.pad_token is None) == (request.param == "llama")
    tokenizer.save_pretrained(path / "model")
    model_for(request.param, tokenizer).float().save_pretrained(path / "model")
    questions = [*CORPUS, "?", "one two three four five six", "Ünï", "x = " + "1 + " * 9 + "1"]
    rows = [{"question": q, "answer": len(q), "tags": [q[:1]]} for q in questions]
    for name, part in (("train", rows[:6]), ("held_out", rows[6:])):
        lines = [json.dumps(row, ensure_ascii=False) for row in part]
        (path / f"{name}.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    (path / "my_reward.py").write_text(REWARD)
    return path


def settings(folder, output):
    return {
        "output": str(output),
        "steps": 3,
        "model": {"path": str(folder / "model")},
        "data": {
            "prompts": str(folder / "train.jsonl"),
            "held_out": str(folder / "held_out.jsonl"),
            "prompt_column": "question",
        },
        "rollout": {"prompts": 4, "group_size": 4, "max_new_tokens": 6},
        "algorithm": {"mini_batches": 2},
        "theory": {"probe_rows": 4},
        "optimizer": {"learning_rate": 0.001},
        "evaluation": {"prompts": 2, "samples": 8, "settings": ["paper"]},
    }


def flat(mapping, prefix=""):
    for name, value in mapping.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}={json.dumps(value) if isinstance(value, list) else value}"


def test_command_line_and_python_train_it_alike(folder, tmp_path, monkeypatch, command):
    """By module:function from the folder it is in, and by a callable, the same rewards and the same run."""
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "my_reward", raising=False)
    run = command("train", *flat(settings(folder, tmp_path / "run")), "--reward.function=my_reward:reward")
    assert run.code == 0, run.said
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scope = {}
    exec(REWARD, scope)
    seen = []

    def reward(prompts, completions, completion_ids, **columns):
        seen.append(scope["reward"](prompts, completions, completion_ids, **columns))
        return seen[-1]

    torch.set_default_dtype(torch.float32)
    result = entrocraft.train(settings(folder, tmp_path / "again"), reward=reward)
    again = [json.loads(line) for line in (result.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["reward_mean"] for row in rows] == [sum(values) / 16 for values in seen[:3]]
    timed = {"wall_s", "time_rollout_s", "time_update_s", "time_theory_s"}
    assert [[v for k, v in row.items() if k not in timed] for row in rows] == [
        [v for k, v in row.items() if k not in timed] for row in again
    ]
    files = [tmp_path / name / "checkpoints" / "step_3" / "model.safetensors" for name in ("run", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != (folder / "model" / "model.safetensors").read_bytes()
    assert len(seen) == 4
    assert len(seen[3]) == 2 * 8
    evaluation = json.loads((result.path / "evaluations.jsonl").read_text())
    assert evaluation["correct"] == [sum(value > 0 for value in seen[3][:8]), sum(value > 0 for value in seen[3][8:])]
    assert {"pass@1", "pass@8", "maj@8", "distinct"} <= set(evaluation["estimates"])


def test_padding_changes_nothing(folder, tmp_path):
    """The entropy of a batch of prompts of different lengths is that of each sequence alone, without padding."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    seen = []

    def reward(prompts, completions, completion_ids, **columns):
        seen.append((prompts, completions, completion_ids))
        return [float(len(ids) % 2) for ids in completion_ids]

    chosen = {**settings(folder, tmp_path / "run"), "steps": 1, "evaluation": {"prompts": 0}}
    entrocraft.train({**chosen, "rollout": {"prompts": 6, "group_size": 6, "max_new_tokens": 40}}, reward)
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    (prompts, completions, ids), entropies = seen[0], []
    assert len({len(tokenizer(prompt).input_ids) for prompt in prompts}) > 3
    for prompt, tokens in zip(prompts, ids, strict=True):
        start = tokenizer(prompt).input_ids
        with torch.no_grad():
            log_prob = model(torch.tensor([start + tokens])).logits[0, len(start) - 1 : -1].log_softmax(-1)
        entropies.append(-(log_prob.exp() * log_prob).sum(-1))
    assert row["entropy"] == pytest.approx(float(torch.cat(entropies).mean()), rel=1e-5)
    assert row["log_prob_gap"] < 1e-4
    end = tokenizer.eos_token_id
    assert row["finished_fraction"] == sum(tokens[-1] == end for tokens in ids) / 36
    assert not any(end in tokens[:-1] for tokens in ids)
    for text, tokens in zip(completions, ids, strict=True):
        assert text == tokenizer.decode([token for token in tokens if token != end], skip_special_tokens=False)


def test_a_checkpoint_of_it_loads_and_can_be_evaluated(folder, tmp_path, command, monkeypatch):
    monkeypatch.chdir(folder)
    chosen = settings(folder, tmp_path / "run")
    chosen |= {"steps": 1, "evaluation": {"prompts": 0}, "reward": {"function": "my_reward:reward"}}
    assert command("train", *flat(chosen)).code == 0
    checkpoint = tmp_path / "run" / "checkpoints" / "step_1"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    original = transformers.AutoModelForCausalLM.from_pretrained(folder / "model")
    assert type(loaded) is type(original)
    ours, theirs = (transformers.AutoTokenizer.from_pretrained(path) for path in (checkpoint, folder / "model"))
    assert ours("x = ü").input_ids == theirs("x = ü").input_ids
    assert ours.pad_token == theirs.pad_token
    evaluated = command("evaluate", checkpoint, "--evaluation.prompts=2", "--evaluation.samples=4")
    assert evaluated.code == 0, evaluated.said
    assert "2 prompts x 4 samples" in evaluated.printed


# GPT-2's configuration class has an end token of its own.
@pytest.mark.parametrize("folder", ["llama", "qwen3"], indirect=True)
def test_a_model_without_an_end_token_is_refused(folder, tmp_path, command):
    copy = shutil.copytree(folder / "model", tmp_path / "model")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        held = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({k: v for k, v in held.items() if not k.startswith("eos_token")}))
    run = command("train", f"--output={tmp_path / 'run'}", f"--model.path={copy}")
    assert run.code == 1
    assert "end token" in run.said
    assert not (tmp_path / "run").exists()
