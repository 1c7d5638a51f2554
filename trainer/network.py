"""One way into the policy's network: hidden states to log-probabilities and entropies, without a row of logits.

Every pass of sampler, update and probe goes through `Network`, so that wrapping it (copies or shards of several
processes) wraps them all.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from entropy_theory.chunked import chunked_token_statistics, fused_token_statistics
from trainer.model import DynamicLayer, at_least_float32, checkpointed_layers, computing, positions

# Up to this many arms a row of logits is cheap, and one matrix product instead of two is faster.
SMALL_VOCABULARY = 8192
# Prompts are shared where that saves at least this part of a block's tokens: it takes two passes instead of one.
WORTH_SHARING = 0.1
# A pass on a GPU, forward and backward, takes some 4 ms a layer for its launches alone (an H100, benchmarks/on_gpu.py:
# 0.2 M to 50 M parameters). At 150 TFLOP/s, which we assume, that is the time of so many products of a token and a
# parameter of the layer, 6 operations each.
PRODUCTS_A_PASS = 1e11


class Block(NamedTuple):
    """Sequences to score: prompts padded on the left, completions on the right, told apart by position alone.

    Args:
        tokens: `[b, L]`; the last T columns are the completion.
        attention: `[b, L]`, True on real tokens.
        mask: `[b, T]`, True on completion tokens.
        temperature: the sampling temperature.
    """

    tokens: Int[Tensor, "b L"]
    attention: Bool[Tensor, "b L"]
    mask: Bool[Tensor, "b T"]
    temperature: float


class Scored(NamedTuple):
    """What the network says of the completions, float32 at least, 0 outside the mask.

    Args:
        log_prob: log-probability of each token under softmax(logits / temperature), nats, `[b, T]`.
        entropy: of that distribution, nats, `[b, T]`.
        logits: `[b, T, V]`, divided by the temperature; None unless asked for.
    """

    log_prob: Float[Tensor, "b T"]
    entropy: Float[Tensor, "b T"]
    logits: Float[Tensor, "b T V"] | None


class Network(nn.Module):
    """A causal language model that also scores completions.

    Args:
        model: the model, a Hugging Face one or any module that returns `.logits`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # Off where processes must make as many passes as each other: sharing takes two, and is not always possible.
        self.shares_prompts = True
        self.plain_head = has_plain_head(model)
        self.least_saved = least_saved(model)

    def forward(self, block: Block | None = None, *, logits: bool = False, **inputs: Any) -> Any:
        """Return the model's own output of `inputs`, or what it says of a block's completions.

        Args:
            block: completions to score; None passes the other arguments to the model.
            logits: also return the logits.
            inputs: of the model.
        """
        if block is None:
            with computing(self.model):
                return self.model(**inputs)
        with recomputing(self.model):
            return self.scored(block, logits)

    def scored(self, block: Block, with_logits: bool) -> Scored:
        """Return log-probabilities and entropies of the completions."""
        mask, length = block.mask, block.mask.shape[1]
        token = block.tokens[:, -length:][mask]
        logits = None
        if with_logits or not self.plain_head:
            logits = self.logits(block)
            found = chunked_token_statistics(logits[mask], token, check=False)
        else:
            hidden, weight = self.hidden(block)[mask], output_matrix(self.model)
            kind = torch.bfloat16 if getattr(self.model, "entrocraft_dtype", None) == "bfloat16" else hidden.dtype
            hidden, weight = hidden.to(kind), weight.to(kind)
            if len(weight) <= SMALL_VOCABULARY:
                rows = at_least_float32(hidden @ weight.T) / block.temperature
                found = chunked_token_statistics(rows, token, check=False)
            else:
                found = fused_token_statistics(hidden / block.temperature, weight, token, check=False)
        blank = torch.zeros(mask.shape, dtype=found.log_prob.dtype, device=mask.device)
        return Scored(
            blank.masked_scatter(mask, found.log_prob),
            blank.masked_scatter(mask, found.entropy),
            logits if with_logits else None,
        )

    def hidden(self, block: Block) -> Float[Tensor, "b T d"]:
        """Return the last hidden states from which the completion's tokens are predicted."""
        length, decoder = block.mask.shape[1], plain_model(self.model).base_model
        # A cache and recomputed layers exclude each other.
        able = self.shares_prompts and not checkpointed_layers(self.model)
        prompts = shared_prompts(block, self.least_saved) if able else None
        with computing(self.model):
            if prompts is None:
                return decoder(**inputs_of(block), use_cache=False).last_hidden_state[:, -length:]
            first = decoder(**inputs_of(prompts.block), use_cache=True)
            if not can_be_split(first.past_key_values):
                return decoder(**inputs_of(block), use_cache=False).last_hidden_state[:, -length:]
            last = first.last_hidden_state[prompts.of_row, -1:]
            if length == 1:
                return last
            first.past_key_values.batch_select_indices(prompts.of_row)
            held = going_on_from(first.past_key_values, decoder)
            further = decoder(**inputs_after_prompt(block), **held, use_cache=True)
        return torch.cat([last, further.last_hidden_state], dim=1)

    def logits(self, block: Block) -> Float[Tensor, "b T V"]:
        """Return the logits that predict the completion's tokens, divided by the temperature."""
        length = block.mask.shape[1]
        with computing(self.model):
            output = self.model(**inputs_of(block), logits_to_keep=length, use_cache=False)
        return at_least_float32(output.logits) / block.temperature


class SharedPrompts(NamedTuple):
    """The different prompts of a block.

    Args:
        block: the prompts alone, followed by one token that is not looked at.
        of_row: `[b]`, which of them each row has.
    """

    block: Block
    of_row: Int[Tensor, " b"]


def least_saved(model: nn.Module) -> int:
    """Return how many tokens sharing prompts must save to be worth a pass: any number on a CPU, more on a GPU."""
    decoder = getattr(plain_model(model), "base_model", model)
    if next(decoder.parameters()).device.type == "cpu":
        return 1
    layers = getattr(getattr(decoder, "config", None), "num_hidden_layers", 1)
    embedded = sum(part.weight.numel() for part in decoder.modules() if isinstance(part, nn.Embedding))
    weights = sum(parameter.numel() for parameter in decoder.parameters()) - embedded
    return math.ceil(PRODUCTS_A_PASS * layers / max(1, weights))


def shared_prompts(block: Block, least: int = 1) -> SharedPrompts | None:
    """Return the different prompts of a block, None where sharing them would save too little.

    Args:
        block: the block.
        least: tokens that it must save.
    """
    width = block.tokens.shape[1] - block.mask.shape[1]
    if len(block.tokens) * width < least:
        return None
    # A token under the mask of attention is told apart from the filler.
    keyed = torch.where(block.attention[:, :width], block.tokens[:, :width], -1)
    unique, of_row = torch.unique(keyed, dim=0, return_inverse=True)
    if (len(keyed) - len(unique)) * width < max(least, WORTH_SHARING * block.tokens.numel()):
        return None
    padded = nn.functional.pad(unique, (0, 1), value=0)
    prompts = Block(padded.clamp(min=0), padded >= 0, block.mask[: len(unique), :1], block.temperature)
    return SharedPrompts(prompts, of_row)


def can_be_split(cache: Any) -> bool:
    """Return whether a cache holds every token's key and value, row by row, so that rows can be taken from it."""
    layers = getattr(cache, "layers", None)
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers or ())


def inputs_after_prompt(block: Block) -> dict[str, Tensor | None]:
    """Return the model's inputs for the completion but for its last token, the prompt being in the cache."""
    width = block.tokens.shape[1] - block.mask.shape[1]
    whole = inputs_of(block)
    places = whole.get("position_ids")
    cut = {} if places is None else {"position_ids": places[:, width:]}
    return {"input_ids": block.tokens[:, width:-1], "attention_mask": whole["attention_mask"], **cut}


def inputs_of(block: Block) -> dict[str, Tensor | None]:
    """Return the model's inputs for all but the last token of each sequence.

    Real tokens never look at the filler on their right, so a mask is only needed where there is filler on the left.
    """
    tokens, attention = block.tokens[:, :-1], block.attention[:, :-1]
    if bool(attention[:, 0].all()):
        return {"input_ids": tokens, "attention_mask": None}
    return {"input_ids": tokens, "attention_mask": attention.long(), "position_ids": positions(attention)}


def plain_model(model: Any) -> Any:
    """Return the Hugging Face model, without the wrapper of its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def going_on_from(cache: Any, model: nn.Module) -> dict[str, Any]:
    """Return the argument that lets a model go on from a cache: `cache` from transformers 5.24 on."""
    return {cache_argument(type(plain_model(model)).forward): cache}


@functools.cache
def cache_argument(forward: Callable[..., Any]) -> str:
    """Return what a model's forward calls the cache that it is given."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def output_matrix(model: nn.Module) -> Float[Tensor, "V d"]:
    """Return the matrix that makes logits of hidden states."""
    return plain_model(model).get_output_embeddings().weight


@torch.no_grad()
def has_plain_head(model: nn.Module) -> bool:
    """Return whether the logits are the last hidden states times one matrix: no bias, scale or cap.

    The model is asked, on two tokens: architectures differ in more ways than names tell.
    """
    plain = plain_model(model)
    head = plain.get_output_embeddings() if hasattr(plain, "get_output_embeddings") else None
    if type(head) is not nn.Linear or head.bias is not None or getattr(plain, "base_model", plain) is plain:
        return False
    tokens = torch.tensor([[0, len(head.weight) - 1]], device=head.weight.device)
    with computing(model):
        hidden = plain.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        given = plain(input_ids=tokens, use_cache=False).logits
        # The same product of the same numbers, in the same type: it rounds alike, so that a mild cap shows.
        made = nn.functional.linear(hidden, head.weight)
    return given.shape == made.shape and bool(
        (given - made).abs().max() <= torch.finfo(made.dtype).eps * made.abs().max()
    )


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Let the layers that gradient checkpointing covers recompute themselves in the backward pass.

    They do so in training mode alone, in which a cache is refused and dropout would act: it is theirs for this pass.
    """
    layers = checkpointed_layers(model) if torch.is_grad_enabled() else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


class Reference:
    """The policy before training, for KL terms: a frozen copy, or under LoRA the model without its adapters.

    Args:
        network: scores completions.
        adapters: the model whose adapters are to be left out; None for a copy.
    """

    def __init__(self, network: nn.Module, adapters: Any = None) -> None:
        self.network, self.adapters = network, adapters

    @torch.no_grad()
    def log_prob(self, block: Block) -> Float[Tensor, "b T"]:
        """Return the log-probability of each completion token, nats, 0 outside the mask."""
        with self.adapters.disable_adapter() if self.adapters is not None else nullcontext():
            return self.network(block).log_prob
