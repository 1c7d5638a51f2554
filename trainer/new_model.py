"""Models without weights to load: small random ones for testbeds, and the shape alone of any model."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from trainer.model import Policy, context_length, model_source


def word_tokenizer(words: Sequence[str], *, context_length: int) -> transformers.PreTrainedTokenizerFast:
    """Return a word-level tokenizer: one token a word, words separated by spaces, no token added to prompts.

    Padding is told apart by position everywhere, so the end token serves for it.
    """
    vocabulary = {word: index for index, word in enumerate(["<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<eos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )


def new_qwen3(
    tokenizer: Any, *, hidden: int, layers: int, heads: int, feed_forward: int, context_length: int, seed: int
) -> Policy:
    """Return a randomly initialised Qwen3-architecture policy with tied embeddings, in float32."""
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=feed_forward,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.Qwen3ForCausalLM(config)
    return Policy(model.eval(), tokenizer, (tokenizer.eos_token_id,), context_length)


def meta_policy(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, with_tokenizer: bool = True
) -> Policy:
    """Return a policy whose network has the shape of a model and no weights: of the model, `config.json` alone is read.

    Args:
        name: as `load_policy` takes it.
        revision: branch, tag or commit of a hub model; null for its main one.
        trust_remote_code: run Python code that comes with the model's files.
        with_tokenizer: also read the tokenizer; None without.

    Raises:
        FileNotFoundError: no such folder, and no such model on the hub (or the hub is out of reach).
    """
    source, given = model_source(name), {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **given)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **given) if with_tokenizer else None
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"meta_policy(name={name!r}) must name a model in Hugging Face format; got: "
            f"{str(error).splitlines()[0]} Check model.path, or the connection to the hub."
        ) from error
    return Policy(model.eval(), tokenizer, (), context_length(model))
