"""Stop texts: where completions end, with tokenizers whose tokens are bytes, pieces of words, or words."""

import pytest
import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from trainer.model import Policy
from trainer.sampling import sample
from trainer.stopping import Endings, StopTexts
from trainer.streams import TokenUniforms

PROMPTS, GROUP, NEW_TOKENS = [[5, 6, 7], [8]], 12, 24
CORPUS = ["the end. The End of it all", "a b a b END END", "öäü ö ä ü €€", "</answer> answer </a>"]


def tokenizer_of(kind):
    """A tokenizer learnt here, of bytes, of pieces with spaces as a sign and bytes for the rest, or of words."""
    if kind == "words":
        words = ["<end>", "the", "end", "of", "it", "all", "a", "b", "c", "END", "."]
        vocabulary = {word: index for index, word in enumerate(words)}
        inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    elif kind == "bytes":
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        learn = trainers.BpeTrainer(vocab_size=290, special_tokens=["<end>"], initial_alphabet=alphabet)
        inner.train_from_iterator(CORPUS, learn)
    else:
        pieces = [
            "<end>",
            *(f"<0x{byte:02X}>" for byte in range(256)),
            *["▁", "▁the", "▁end", "▁E", "N", "D", "ND", ".", "a", "b", "▁a", "▁b"],
        ]
        merges = [("N", "D")]
        inner = tokenizers.Tokenizer(
            models.BPE({piece: index for index, piece in enumerate(pieces)}, merges, byte_fallback=True)
        )
        inner.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


def policy_of(kind):
    """A random model over that tokenizer that mostly takes the corpus's tokens, the parts of ü most of all."""
    tokenizer = tokenizer_of(kind)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        config = transformers.LlamaConfig(**size, intermediate_size=16, vocab_size=len(tokenizer), eos_token_id=0)
        model = transformers.LlamaForCausalLM(config).double().eval()
    letters = ["a", "b", "N", "D", "ND", "E", "the", "end", "."]
    wanted = {token for token in range(len(tokenizer)) if tokenizer.decode([token]).strip() in letters}
    known = ["ü", "€ö", *([] if kind == "pieces" else CORPUS)]
    wanted |= {token for text in known for token in tokenizer(text)["input_ids"]}
    rare = [token for token in range(1, len(tokenizer)) if token not in wanted]
    in_parts = [token for token in tokenizer("ü")["input_ids"] if token]
    forward = model.forward

    def biased(**inputs):
        output = forward(**inputs)
        output.logits[..., rare] -= 6
        output.logits[..., in_parts] += 1.5
        return output

    model.forward = biased
    return Policy(model, tokenizer, (0,), 64)


@pytest.fixture(scope="module", params=["bytes", "pieces", "words"])
def policy(request):
    return policy_of(request.param)


def sampled(policy, **options):
    return sample(policy, PROMPTS, GROUP, NEW_TOKENS, generator=TokenUniforms(3), **options)


def cut(policy, completion, stop):
    """The completion up to the first token with which its text holds a stop text, and whether there is one."""
    for length in range(1, len(completion) + 1):
        (text,) = policy.decode([completion[:length]])
        if any(each in text for each in stop):
            return completion[:length], True
    return completion, completion[-1] in policy.stop_ids


STOPS = [
    ("b",),
    ("a b",),
    ("END", "of it"),
    ("ü",),
    ("€",),
    (" ",),
    ("b ",),
    (" b",),
    (". ", "the end"),
    ("ö", "never"),
]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
@pytest.mark.parametrize("slots", [0, 5])
def test_completions_end_where_their_text_first_holds_a_stop_text(policy, stop, slots):
    whole, stopped = sampled(policy).completions(), sampled(policy, stop=stop, slots=slots)
    expected = [cut(policy, completion, stop) for completion in whole]
    assert stopped.completions() == [completion for completion, _ in expected]
    assert stopped.finished.tolist() == [ended for _, ended in expected]


def test_those_stop_texts_do_end_completions(policy):
    """What the test above compares is worth comparing: nearly every stop text cuts some completion."""
    whole = sampled(policy).completions()
    cutting = [stop for stop in STOPS if any(cut(policy, completion, stop)[0] != completion for completion in whole)]
    assert len(cutting) >= (4 if policy.tokenizer.vocab_size < 20 else 6), cutting


def test_the_text_that_ends_a_completion_belongs_to_it(policy):
    texts = policy.decode(sampled(policy, stop=("b",)).completions())
    assert sum("b" in text for text in texts) > 3
    assert all("b" not in text[: text.index("b")] and text.count("b") <= 2 for text in texts if "b" in text)


def test_without_stop_texts_nothing_is_decoded(policy, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("decoded")

    monkeypatch.setattr(Policy, "decode", refuse)
    sampled(policy)
    with pytest.raises(AssertionError, match="decoded"):
        sampled(policy, stop=("b",))


def test_only_rows_whose_newest_token_may_complete_a_stop_text_are_decoded(monkeypatch):
    policy, decoded = policy_of("bytes"), []
    decode = Policy.decode
    monkeypatch.setattr(Policy, "decode", lambda self, ids: decoded.extend(ids) or decode(self, ids))
    stop = StopTexts(policy, ["END"])
    ids = policy.tokenizer("the end, at least, of all this is not yet quite reached: END")["input_ids"]
    assert [stop.found(ids[: length + 1]) for length in range(len(ids))] == [False] * (len(ids) - 1) + [True]
    longer = [tokens for tokens in decoded if len(tokens) > 1]
    assert len(longer) == 2  # the window and, as it holds the text, the whole
    assert len(longer[0]) == stop.window < len(longer[1])
    assert len(decoded) - 2 == len(set(ids))  # each token's own text once


def test_endings_by_hand():
    policy = policy_of("words")
    (end, b, a) = policy.tokenizer("<end> b a")["input_ids"]
    endings = Endings(policy, 4, 3, ["a b"])
    assert endings.of([0, 1, 2, 3], [a, b, end, a]) == [2]
    assert endings.of([3, 0, 1], [b, a, b]) == [0]
    assert endings.of([0, 1], [b, b]) == [0, 1]
    assert endings.finished == [True, False, True, True]
    assert endings.lengths == [3, 3, 1, 2]


def test_a_character_of_bytes_is_found_after_many_others():
    """The window starts amid a character, which makes a decoder of bytes give up on all that follow."""
    policy = policy_of("pieces")
    ids = policy.tokenizer("€" * 9 + "ü")["input_ids"]
    stop = StopTexts(policy, ["ü"])
    assert "ü" not in stop.text_of(ids[-stop.window :])
    assert [stop.found(ids[: length + 1]) for length in range(len(ids))] == [False] * (len(ids) - 1) + [True]
