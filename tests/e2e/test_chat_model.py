"""A run of an instruction-tuned model on conversations, from files with columns of their own to the summary."""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers import decoders as token_decoders

import entrocraft
from trainer.sampling import sample

TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% if not think %}<|quiet|>{% endif %}{% endif %}"
)
TALKS = [
    [{"role": "user", "content": "What is 3 + 4?"}],
    [
        {"role": "user", "content": "Add 1 and 1."},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And öäü?"},
    ],
    [{"role": "user", "content": "a long question " * 12}],
    [{"role": "user", "content": "?"}],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose tokenizer has a chat template, conversations to train on, and questions to evaluate."""
    path = tmp_path_factory.mktemp("chat")
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = token_decoders.ByteLevel()
    special = ["<|end|>", "<|pad|>", "<|start|>", "<|quiet|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=special[2:]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path / "model")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    shape |= {"intermediate_size": 16, "max_position_embeddings": 160, "initializer_range": 0.3, "head_dim": 8}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = transformers.Qwen3Config(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **shape)
        transformers.Qwen3ForCausalLM(config).float().save_pretrained(path / "model")
    rows = [{"talk": talk, "result": index} for index, talk in enumerate(TALKS)]
    (path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (path / "held_out.jsonl").write_text('{"question": "5 - 2", "result": 3}')
    return path


def settings(folder, output):
    return {
        "output": str(output),
        "steps": 2,
        "model": {"path": str(folder / "model")},
        "data": {
            "prompts": str(folder / "train.jsonl"),
            "held_out": {"sums": {"source": str(folder / "held_out.jsonl"), "prompt_column": "question"}},
            "prompt_column": "talk",
            "columns": {"answer": "result"},
            "chat": True,
            "system": "Be brief.",
            "chat_options": {"think": False},
            "too_long": "drop",
        },
        "rollout": {"prompts": 3, "group_size": 2, "max_new_tokens": 4},
        "algorithm": {"mini_batches": 1},
        "theory": {"enabled": False},
        "evaluation": {"prompts": 2, "samples": 2, "settings": ["t1"]},
    }


def test_conversations_are_trained_on_and_evaluated(folder, tmp_path, command, plugins, capsys, monkeypatch):
    seen, sampled = [], []

    def reward(prompts, completions, completion_ids, *, answer, **columns):
        seen.append((prompts, answer, completions))
        return [float(sum(ids) % 2) for ids in completion_ids]

    def watched(policy, ids, *args, **more):
        sampled.append(ids)
        return sample(policy, ids, *args, **more)

    monkeypatch.setattr("trainer.engine.ENGINES", {"cache": watched})
    torch.set_default_dtype(torch.float32)
    result = entrocraft.train(settings(folder, tmp_path / "run"), reward=reward)
    assert "data.prompts: left out 1 of 4 prompts" in capsys.readouterr().err
    assert result.summary["dropped_prompts"] == {"data.prompts": 1}

    # The long one is never drawn, the others once a pass, each for its group of two.
    kept = [(talk, index) for index, talk in enumerate(TALKS) if index != 2]
    for prompts, answers, completions in seen[:2]:
        assert prompts[::2] == prompts[1::2]
        assert all(isinstance(text, str) for text in completions)
        assert sorted(zip(answers[::2], prompts[::2], strict=True), key=str) == sorted(
            ((index, talk) for talk, index in kept), key=str
        )
    assert seen[2][:2] == (["5 - 2"] * 2, [3] * 2)

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    for ids, (prompts, _, _) in zip(sampled[:2], seen[:2], strict=True):
        for row, talk in zip(ids, prompts[::2], strict=True):
            spoken = [{"role": "system", "content": "Be brief."}, *talk]
            assert row == tokenizer.apply_chat_template(spoken, add_generation_prompt=True, return_dict=False)
            assert tokenizer.decode(row).startswith("<|start|>system\nBe brief.<|end|>\n<|start|>user\n")
            assert tokenizer.decode(row).endswith("<|end|>\n<|start|>assistant\n<|quiet|>")

    small = ["--config", tmp_path / "run" / "config.yaml", "--reward.function", f"{plugins}:parity"]
    evaluated = command("evaluate", tmp_path / "run" / "checkpoints" / "step_2", *small)
    assert evaluated.code == 0, evaluated.said
    assert "1 prompts x 2 samples" in evaluated.printed
    assert "left out" not in evaluated.said  # prompts that are not evaluated
