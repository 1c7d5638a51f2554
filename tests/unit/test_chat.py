"""Prompts as the model sees them: the chat template, the longest prompt, and tokens that it has no embedding for."""

from dataclasses import replace

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from trainer.chat import ChatFormat
from trainer.config import DataConfig, RolloutConfig, TrainConfig
from trainer.data import FilePrompts, TaskPrompts, fit_prompts, with_chat
from trainer.model import Policy
from trainer.tasks.countdown import Countdown

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %} {{ message.role }} {{ message.content }} end{% endfor %}"
    "{% if add_generation_prompt %} assistant{% endif %}{% if brief %} brief{% endif %}"
    "{% if messages[0].role == 'critic' %}{{ raise_exception('Unknown role critic') }}{% endif %}"
)
WORDS = ["<s>", "user", "assistant", "system", "end", "brief", "a", "b", "c", "critic"]
ASKED = [{"role": "user", "content": "a"}]


@pytest.fixture
def speaker(tiny):
    """A policy of 12 tokens whose tokenizer adds a first token to plain text, and whose template writes it."""
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<s>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="end")
    tokenizer.chat_template = TEMPLATE
    return replace(tiny, tokenizer=tokenizer)


def words(policy: Policy, prompts, **settings):
    """The prompts as the model sees them under these settings, as words."""
    ids = with_chat(policy, DataConfig(**settings)).encode(prompts)
    return [" ".join(WORDS[index] for index in row) for row in ids]


def test_plain_text_has_the_tokens_that_the_tokenizer_adds(speaker):
    assert words(speaker, ["a b", "c"]) == ["<s> a b", "<s> c"]


def test_text_is_a_users_message_and_a_conversation_is_itself(speaker):
    told = [*ASKED, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    assert words(speaker, ["a b", told], chat=True) == [
        "<s> user a b end assistant",
        "<s> user a end assistant b end user c end assistant",
    ]


def test_a_system_message_comes_first_and_options_reach_the_template(speaker):
    seen = words(speaker, ["a", ASKED], chat=True, system="c", chat_options={"brief": True, "padding": True})
    assert seen == ["<s> system c end user a end assistant brief"] * 2
    assert ASKED == [{"role": "user", "content": "a"}]


def test_an_answer_at_the_end_is_continued_only_if_that_is_asked_for(speaker):
    told = [*ASKED, {"role": "assistant", "content": "b"}]
    with pytest.raises(ValueError, match=r"ends with its message 'b'.*continue_final_message: true"):
        words(speaker, [told], chat=True)
    assert words(speaker, [told], chat=True, chat_options={"continue_final_message": True}) == [
        "<s> user a end assistant b"
    ]


def test_what_a_chat_cannot_be_made_of_is_refused(speaker):
    told = [{"role": "system", "content": "b"}, *ASKED]
    with pytest.raises(ValueError, match=r"data\.system='c'.*one with 'b'\. Leave data\.system null"):
        words(speaker, [told], chat=True, system="c")
    with pytest.raises(ValueError, match=r"got: Unknown role critic\. Check the roles"):
        words(speaker, [ASKED, [{"role": "critic", "content": "a"}]], chat=True)
    speaker.tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"data\.chat=True.*got one without\. Take an instruction-tuned model"):
        with_chat(speaker, DataConfig(chat=True))
    assert with_chat(speaker, DataConfig()) is speaker


def test_a_policy_keeps_its_format_when_its_network_is_replaced(speaker):
    assert replace(with_chat(speaker, DataConfig(chat=True)), model=None).chat == ChatFormat()


def source(*lengths, held_out=(1,)):
    """Prompts of these numbers of words."""
    rows, far = ([{"prompt": "w1 " * count} for count in counts] for counts in (lengths, held_out))
    return FilePrompts(rows, {"far": far}, seed=0)


def config(new_tokens=8, **data):
    return TrainConfig(data=DataConfig(prompts="rows.jsonl", **data), rollout=RolloutConfig(max_new_tokens=new_tokens))


def lengths(rows):
    return [len(row["prompt"].split()) for row in rows]


def test_long_prompts_are_left_out_and_counted(tiny, capsys):
    # the context holds 32 tokens, of which 8 are left for completions
    fitted = fit_prompts(tiny, source(24, 25, 3, 30, held_out=(25, 24)), config(too_long="drop"))
    assert lengths(fitted.rows) == [24, 3]
    assert lengths(fitted.held_out["far"]) == [24]
    assert fitted.dropped == {"data.prompts": 2, "data.held_out far": 1}
    said = capsys.readouterr()
    assert "data.prompts: left out 2 of 4 prompts, which have more than 24 tokens (context 32 less" in said.err
    assert "data.held_out far: left out 1 of 2 prompts" in said.err
    assert said.out == ""


def test_nothing_is_said_when_all_prompts_fit(tiny, capsys):
    fitted = fit_prompts(tiny, source(5, 4), config(too_long="drop", max_prompt_tokens=5))
    assert fitted == source(5, 4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"1 to 24 tokens \(context 32 less rollout\.max_new_tokens 8\); got 25.*lower rollout\.max_new_tokens"),
        ({"max_prompt_tokens": 30}, r"1 to 24 tokens \(context 32 less"),
        (
            {"max_prompt_tokens": 3},
            r"1 to 3 tokens \(data\.max_prompt_tokens 3\); got 4.*raise data\.max_prompt_t",
        ),
        (
            {"max_prompt_tokens": 3, "too_long": "drop"},
            r"'data\.prompts'.* at most 3 tokens \(data\.max.*none among 2, the shortest has 4\..*raise data\.max_prom",
        ),
    ],
)
def test_long_prompts_are_refused_and_so_is_a_source_without_others(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        fit_prompts(tiny, source(4, 25), config(**settings))


def test_a_held_out_set_without_short_prompts_is_refused(tiny):
    with pytest.raises(ValueError, match=r"'data\.held_out far'.*got none among 1, the shortest has 7"):
        fit_prompts(tiny, source(4, held_out=(7,)), config(max_prompt_tokens=5, too_long="drop"))


def test_every_chunk_of_prompts_is_looked_at(tiny, monkeypatch):
    monkeypatch.setattr("trainer.data.fitting.CHUNK", 2)
    fitted = fit_prompts(tiny, source(1, 9, 2, 3, 9, 4, 5), config(max_prompt_tokens=8, too_long="drop"))
    assert lengths(fitted.rows) == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="got 9"):
        fit_prompts(tiny, source(1, 2, 3, 4, 9), config(max_prompt_tokens=8))


def test_a_prompt_with_a_token_of_another_model_is_refused(tiny):
    tiny.tokenizer.add_tokens(["foreign"])
    assert lengths(fit_prompts(tiny, source(4), config()).rows) == [4]
    for place in (0, 1):
        prompts = FilePrompts([{"prompt": "w1"}, {"prompt": "w1"}], {}, 0)
        prompts.rows[place]["prompt"] = "w1 foreign w2"
        with pytest.raises(ValueError, match=r"'w1 foreign w2'\).*vocabulary of 12; got 12 from a tokenizer of 13"):
            fit_prompts(tiny, prompts, config())


def test_a_tasks_prompts_are_looked_at_before_the_run(tiny, shipped):
    task = TaskPrompts(Countdown(), seed=0, split="test", held_out_seed=0)
    assert fit_prompts(shipped, task, TrainConfig()) is task
    assert task.dropped == {}
    with pytest.raises(ValueError, match="unknown token"):
        fit_prompts(tiny, task, TrainConfig())


def test_evaluation_looks_at_held_out_prompts_alone(tiny, capsys):
    fitted = fit_prompts(tiny, source(24, 40, held_out=(25, 24)), config(too_long="drop"), train=False)
    assert (lengths(fitted.rows), lengths(fitted.held_out["far"])) == ([24, 40], [24])
    assert fitted.dropped == {"data.held_out far": 1}
