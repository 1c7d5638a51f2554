"""Loading models of architectures that differ in the attention they have."""

import pytest
import transformers

from trainer.model import load_policy
from trainer.new_model import word_tokenizer


@pytest.fixture
def falcon(tmp_path):
    """A folder with an architecture that looks its attention up in a mapping of its own."""
    tokenizer = word_tokenizer(["a", "b"], context_length=32)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(tokenizer)}
    transformers.FalconForCausalLM(transformers.FalconConfig(**size)).float().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_what_an_architecture_does_not_have_is_replaced(falcon):
    assert load_policy(falcon, device="cpu").model.config._attn_implementation == "eager"


@pytest.mark.parametrize("attention", ["sdpa_float64", "no_such"])
def test_what_was_asked_for_is_not(falcon, attention):
    with pytest.raises(ValueError, match=rf"attention='{attention}'.*Set model.attention: auto"):
        load_policy(falcon, device="cpu", attention=attention)
