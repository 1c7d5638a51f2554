"""How much memory a run takes, from sizes alone: bytes by item and phase.

Everything here is an upper bound of a step whose completions all have their greatest length. Formulas of activations
count what PyTorch keeps for the backward pass of a pre-norm decoder with a gated feed-forward block (Qwen, Llama,
Mistral), without dropout; they were fitted to what it does keep, in nine shapes, to 1 %. Other dense architectures are
near; of a mixture of experts every expert is counted as if each token used it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

BYTES = {"float32": 4, "float64": 8, "bfloat16": 2}
# Bytes kept a token and layer, for each unit of (width, query width, key width, feed-forward width); under LoRA the
# inputs of frozen matrices are not kept. A float64 computation keeps twice what float32 does.
KEPT = {
    ("float32", False): (24, 24, 8, 16),
    ("float32", True): (16, 20, 6, 16),
    ("bfloat16", False): (26, 14, 6, 8),
    ("bfloat16", True): (19, 14, 6, 9),
}
# And for each unit of LoRA's rank: one float32 number in each of a layer's seven matrices.
KEPT_RANK = 28
# More for each unit of query width where attention is computed in float64.
KEPT_FLOAT64_ATTENTION = {"float32": 20, "bfloat16": 26, "float64": 0}
# Bytes a rollout holds: of each token its id and attention; of each completion token its mask, six recorded numbers in
# float32 and one uniform in float64.
ROLLOUT_TOKEN, ROLLOUT_COMPLETION_TOKEN = 9, 33
# Bytes of each logit that a token is drawn from: it, its scaled form and probability in float32, the probability and
# the running sum in float64.
DRAWN_LOGIT = 28


@dataclass(frozen=True)
class ModelShape:
    """What the cost of a network depends on.

    Args:
        parameters: weights in all.
        body: weights of the matrices of the decoder layers.
        head: weights of the output matrix.
        adapted: sum of input and output widths over the matrices that LoRA adapts.
        layers: decoder layers.
        hidden: width of the residual stream.
        queries: attention heads times their width.
        keys: key-value heads times their width.
        feed_forward: width of the feed-forward block.
        vocabulary: rows of the output matrix.
        context: the longest sequence, tokens.
    """

    parameters: int
    body: int
    head: int
    adapted: int
    layers: int
    hidden: int
    queries: int
    keys: int
    feed_forward: int
    vocabulary: int
    context: int


def model_shape(model: Any) -> ModelShape:
    """Return the shape of a Hugging Face causal language model, which may be on the meta device."""
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    output = model.get_output_embeddings().weight
    # Every matrix but the embeddings: linear layers, and GPT-2's own kind of them.
    matrices = [
        module.weight
        for module in model.modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        and module.weight.dim() == 2
        and not isinstance(module, nn.Embedding)
        and module.weight is not output
    ]
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        body=sum(matrix.numel() for matrix in matrices),
        head=output.numel(),
        adapted=sum(sum(matrix.shape) for matrix in matrices),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        queries=heads * width,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * width,
        feed_forward=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocabulary=output.shape[0],
        context=int(getattr(config, "max_position_embeddings", None) or 2**31),
    )


@dataclass(frozen=True)
class Sizes:
    """What a configuration makes of a step; rows and tokens are those of all processes together.

    Args:
        prompts: P.
        group_size: G.
        prompt_tokens: tokens of the longest prompt.
        new_tokens: T, most tokens of a completion.
        decoded_rows: completions that one process decodes at once, at most.
        micro_rows: rows of the largest pass of an update.
        probe_rows: rows of the probe; 0 without one.
        epochs: passes over the rollouts.
        compute: type of the computation.
        weights: type of the weights that are kept; adapters are float32.
        lora_rank: rank of the adapters; 0 trains all weights.
        checkpointing: activations are recomputed.
        reference: there is a KL term against the initial policy.
        full_logits: a method needs whole rows of logits.
        float64_attention: attention is computed in float64.
        second_order: the probe computes the second-order term.
        condition: the probe keeps its logits.
        processes: N.
        sharded: each process holds a shard of the weights, not a copy.
        block: logits of one block of the vocabulary.
    """

    prompts: int
    group_size: int
    prompt_tokens: int
    new_tokens: int
    decoded_rows: int
    micro_rows: int
    probe_rows: int
    epochs: int
    compute: str
    weights: str
    lora_rank: int
    checkpointing: bool
    reference: bool
    full_logits: bool
    float64_attention: bool
    second_order: bool
    condition: bool
    processes: int
    sharded: bool
    block: int

    @property
    def rows(self) -> int:
        """Rollouts a step."""
        return self.prompts * self.group_size

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return self.prompt_tokens + self.new_tokens


@dataclass(frozen=True)
class Bytes:
    """What an item takes on each process while rollouts are sampled, and while the policy is updated."""

    sampling: int
    update: int


def trainable_parameters(shape: ModelShape, lora_rank: int) -> int:
    """Return how many parameters train: all, or of each adapted matrix rank times (inputs + outputs).

    Source: arXiv 2106.09685, Section 4.1.
    """
    return lora_rank * shape.adapted if lora_rank else shape.parameters


def activation_bytes(shape: ModelShape, sizes: Sizes, rows: int) -> int:
    """Return what the backward pass of these rows keeps in the decoder layers, at its largest.

    A token of a layer keeps a width + b queries + c keys + d feed_forward bytes, (a, b, c, d) being KEPT, and as many
    numbers of attention mask as the sequence is long; all layers are kept, or with checkpointing one, and of the others
    their input alone. Two gradients of the feed-forward width come on top while a layer is gone through.

    Source: what PyTorch 2.13 and transformers 5.23 keep (`tests/unit/test_estimate.py` measures it).
    """
    wide = sizes.compute == "float64"
    kind = "float32" if wide else sizes.compute
    number = BYTES[sizes.compute]
    tokens = rows * sizes.length
    widths = (shape.hidden, shape.queries, shape.keys, shape.feed_forward)
    kept = sum(k * width for k, width in zip(KEPT[kind, sizes.lora_rank > 0], widths, strict=True)) * (1 + wide)
    kept += KEPT_RANK * sizes.lora_rank
    kept += shape.queries * KEPT_FLOAT64_ATTENTION[sizes.compute] if sizes.float64_attention else 0
    kept += sizes.length * (8 if sizes.float64_attention else number)
    residual = max(BYTES[sizes.weights], 2) * shape.hidden
    layer = tokens * (kept + 2 * shape.feed_forward * number)
    if sizes.checkpointing:
        return tokens * shape.layers * residual + layer
    return tokens * (shape.layers - 1) * kept + layer


def logit_bytes(shape: ModelShape, sizes: Sizes) -> int:
    """Return what an update's logits take: four times a block of them, or all of a pass where a method needs them."""
    number = max(4, BYTES[sizes.compute])
    whole = 4 * number * sizes.micro_rows * sizes.new_tokens * shape.vocabulary
    return whole if sizes.full_logits else min(whole, 4 * number * sizes.block)


def cache_bytes(shape: ModelShape, sizes: Sizes) -> int:
    """Return the KV cache at its largest: rows x tokens x layers x 2 x key width.

    Its type is that of the weights, also where autocast computes in another: rotation makes keys as wide again.
    """
    return (
        2
        * max(BYTES[sizes.compute], BYTES[sizes.weights])
        * sizes.decoded_rows
        * sizes.length
        * shape.layers
        * shape.keys
    )


def memory(shape: ModelShape, sizes: Sizes) -> Mapping[str, Bytes]:
    """Return what each item takes on one process, in bytes.

    Args:
        shape: the network.
        sizes: the step.

    Returns:
        Items by name. The peak is the larger of the two sums; what the device's own context takes (0.5 GiB and more)
        and what the allocator loses to fragments is not in it.
    """
    part = sizes.processes if sizes.sharded else 1
    held = BYTES[sizes.weights]
    trainable = trainable_parameters(shape, sizes.lora_rank) * (4 if sizes.lora_rank else held)
    weights = shape.parameters * held + (trainable if sizes.lora_rank else 0)
    cast = 2 * (shape.body + shape.head) if sizes.compute == "bfloat16" and held > 2 else 0
    reference = shape.parameters * held // part if sizes.reference and not sizes.lora_rank else 0
    copies = (5 if sizes.second_order else 2) if sizes.probe_rows else 0
    rollouts = sizes.rows * (ROLLOUT_TOKEN * sizes.length + ROLLOUT_COMPLETION_TOKEN * sizes.new_tokens)
    items = {
        "weights": Bytes(weights // part, weights // part),
        # Sampling holds the weights of all shards; an update those of two layers, one of them on its way.
        "gathered weights": Bytes(weights, 2 * held * shape.body // shape.layers) if sizes.sharded else Bytes(0, 0),
        "bfloat16 copy of the weights": Bytes(cast, cast),
        "reference": Bytes(reference, reference),
        "optimizer state": Bytes(2 * trainable // part, 2 * trainable // part),
        "gradients": Bytes(0, trainable // part),
        "gradients in exchange": Bytes(0, trainable if sizes.processes > 1 and not sizes.sharded else 0),
        "probe's copies": Bytes(0, copies * trainable // part),
        "probe's logits": Bytes(0, kept_logit_bytes(shape, sizes)),
        "KV cache": Bytes(cache_bytes(shape, sizes), 0),
        "activations": Bytes(0, activation_bytes(shape, sizes, sizes.micro_rows)),
        "logits": Bytes(DRAWN_LOGIT * sizes.decoded_rows * shape.vocabulary, logit_bytes(shape, sizes)),
        "rollouts": Bytes(rollouts, rollouts),
    }
    return {name: item for name, item in items.items() if item.sampling or item.update}


def kept_logit_bytes(shape: ModelShape, sizes: Sizes) -> int:
    """Return the bytes of the logits that the probe keeps over the update, in float32 at least."""
    kept = sizes.probe_rows * sizes.new_tokens * shape.vocabulary // sizes.processes if sizes.condition else 0
    return kept * max(4, BYTES[sizes.compute])


def peak(items: Mapping[str, Bytes]) -> int:
    """Return the larger sum of the two phases, in bytes.

    >>> peak({"weights": Bytes(2, 2), "KV cache": Bytes(3, 0), "gradients": Bytes(0, 2)})
    5
    """
    return max(sum(item.sampling for item in items.values()), sum(item.update for item in items.values()))
