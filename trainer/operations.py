"""How much a step computes, from sizes alone: floating-point operations by part.

An upper bound, of a step whose completions all have their greatest length and which drops none of them.
"""

from collections.abc import Mapping

from trainer.estimate import ModelShape, Sizes


def forward_operations(shape: ModelShape, tokens: int, logits: int, attended: float) -> tuple[float, float]:
    """Return (matrix, attention) operations of a forward pass: 2 a weight and token, 4 a pair of tokens and unit.

    Args:
        shape: the network.
        tokens: through the decoder layers.
        logits: tokens whose logits are computed.
        attended: pairs of a token and one that it attends to.

    Source: arXiv 2001.08361, Section 2.1.
    """
    return 2.0 * (shape.body * tokens + shape.head * logits), 4.0 * shape.layers * shape.queries * attended


def operations(shape: ModelShape, sizes: Sizes) -> Mapping[str, float]:
    """Return the floating-point operations of a step by part, over all processes: 2 N a token in a pass.

    A pass with gradient costs three forward passes, four with checkpointing; of frozen matrices one less. N are the
    weights of matrices (the output matrix only where logits are computed); attention comes on top.
    """
    rows, length, new = sizes.rows, sizes.length, sizes.new_tokens
    prompts = sizes.prompts * sizes.prompt_tokens
    within = length**2 / 2

    def passes(count: int, times: int, attention_times: int) -> float:
        matrix, attention = forward_operations(shape, count * length, count * new, count * within)
        return times * matrix + attention_times * attention

    again = 1 if sizes.checkpointing else 0
    trained = (2 if sizes.lora_rank else 3) + again
    sampled = forward_operations(
        shape,
        prompts + rows * new,
        sizes.prompts + rows * new,
        sizes.prompts * sizes.prompt_tokens**2 / 2 + rows * (within - sizes.prompt_tokens**2 / 2),
    )
    probes = 1 + (2 if sizes.second_order else 0)
    looks = 3 if sizes.condition else 1
    found = {
        "sampling": sum(sampled),
        "update": passes(rows * sizes.epochs, trained, 3 + again),
        "reference": passes(rows * sizes.epochs, 1, 1) if sizes.reference else 0.0,
        "probe": passes(sizes.probe_rows, probes * trained + looks, probes * (3 + again) + looks)
        if sizes.probe_rows
        else 0.0,
    }
    return {name: value for name, value in found.items() if value}
