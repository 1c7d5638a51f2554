"""Estimates: by hand, against what peft, PyTorch's allocator and its operation counter say."""

from dataclasses import replace

import pytest
import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from trainer import estimate
from trainer.estimate import ModelShape, Sizes
from trainer.model import Policy, completion_logits, computing, load_policy, with_lora
from trainer.new_model import meta_policy
from trainer.operations import forward_operations, operations

# 2 layers of width 10, 2 heads of 3 and 1 of them for keys, a feed-forward block of 20 and 7 tokens, tied.
BODY = 2 * (10 * 6 + 2 * 10 * 3 + 6 * 10 + 3 * 10 * 20)
SHAPE = ModelShape(
    parameters=BODY + 70 + 5 * 10,
    body=BODY,
    head=70,
    adapted=2 * (16 + 2 * 13 + 16 + 3 * 30),
    layers=2,
    hidden=10,
    queries=6,
    keys=3,
    feed_forward=20,
    vocabulary=7,
    context=64,
)
SIZES = Sizes(
    prompts=3,
    group_size=4,
    prompt_tokens=2,
    new_tokens=5,
    decoded_rows=12,
    micro_rows=2,
    probe_rows=4,
    epochs=1,
    compute="float32",
    weights="float32",
    lora_rank=0,
    checkpointing=False,
    reference=True,
    full_logits=False,
    float64_attention=False,
    second_order=False,
    condition=False,
    processes=1,
    sharded=False,
    block=50,
)
# What a token of a layer keeps: 24 x 10 + 24 x 6 + 8 x 3 + 16 x 20, and 7 numbers of mask.
KEPT = 728 + 4 * 7


def test_memory_by_hand():
    items = estimate.memory(SHAPE, SIZES)
    weights = 4 * SHAPE.parameters
    rollouts = 12 * (9 * 7 + 33 * 5)
    assert {name: (item.sampling, item.update) for name, item in items.items()} == {
        "weights": (weights, weights),
        "reference": (weights, weights),
        "optimizer state": (2 * weights, 2 * weights),
        "gradients": (0, weights),
        "probe's copies": (0, 2 * weights),
        "KV cache": (4 * 12 * 7 * 2 * 2 * 3, 0),
        # 2 rows x 7 tokens, 2 layers, and two gradients of the feed-forward width.
        "activations": (0, 14 * (2 * KEPT + 2 * 20 * 4)),
        # 12 rows and 28 bytes an arm; four times a block of 50 against 2 x 5 x 7 logits.
        "logits": (28 * 12 * 7, 16 * 50),
        "rollouts": (rollouts, rollouts),
    }
    assert estimate.peak(items) == sum(item.update for item in items.values())


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all():
    given = replace(SIZES, checkpointing=True)
    assert estimate.activation_bytes(SHAPE, given, 2) == 14 * (2 * 40 + KEPT + 160)


def test_whole_logits_where_a_method_needs_them():
    assert estimate.logit_bytes(SHAPE, replace(SIZES, full_logits=True)) == 16 * 2 * 5 * 7
    assert estimate.logit_bytes(SHAPE, replace(SIZES, block=10)) == 16 * 10


def test_the_condition_keeps_the_logits_of_the_probe():
    """4 rows x 5 tokens x 7 arms, each process its rows; and two passes more over them."""
    given = replace(SIZES, condition=True)
    assert estimate.memory(SHAPE, given)["probe's logits"] == estimate.Bytes(0, 4 * 4 * 5 * 7)
    assert estimate.memory(SHAPE, replace(given, processes=2))["probe's logits"].update == 2 * 4 * 5 * 7
    once, more = (operations(SHAPE, replace(sizes, second_order=False))["probe"] for sizes in (SIZES, given))
    assert (more - once) / once == pytest.approx(2 / 4)


def test_bfloat16_over_float32_weights_copies_the_matrices_and_keeps_a_wide_cache():
    items = estimate.memory(SHAPE, replace(SIZES, compute="bfloat16"))
    assert items["bfloat16 copy of the weights"].update == 2 * (BODY + 70)
    assert items["weights"].update == 4 * SHAPE.parameters
    assert items["KV cache"].sampling == 4 * 12 * 7 * 2 * 2 * 3
    halved = estimate.memory(SHAPE, replace(SIZES, compute="bfloat16", weights="bfloat16"))
    assert "bfloat16 copy of the weights" not in halved
    assert halved["KV cache"].sampling == 2 * 12 * 7 * 2 * 2 * 3


def test_adapters_alone_are_trained_and_are_the_only_thing_kept_twice():
    items = estimate.memory(SHAPE, replace(SIZES, compute="bfloat16", weights="bfloat16", lora_rank=3))
    adapters = 4 * 3 * SHAPE.adapted
    assert items["weights"].update == 2 * SHAPE.parameters + adapters
    assert (items["optimizer state"].update, items["gradients"].update) == (2 * adapters, adapters)
    assert "reference" not in items


def test_processes_share_shards_but_not_copies():
    alone = estimate.memory(SHAPE, SIZES)
    copies = estimate.memory(SHAPE, replace(SIZES, processes=4))
    shards = estimate.memory(SHAPE, replace(SIZES, processes=4, sharded=True))
    for name in ("weights", "reference", "optimizer state", "gradients", "probe's copies"):
        assert copies[name] == alone[name]
        assert shards[name].update == alone[name].update / 4
    assert copies["gradients in exchange"].update == 4 * SHAPE.parameters
    # While it samples, a process holds the whole weights; while it updates, two of the two layers.
    assert shards["gathered weights"] == estimate.Bytes(4 * SHAPE.parameters, 4 * BODY)


def test_operations_by_hand():
    found = operations(SHAPE, replace(SIZES, epochs=2))
    pairs = 7 * 7 / 2
    forward = 2 * (BODY * 7 + 70 * 5) + 4 * 2 * 6 * pairs
    matrices = 2 * (BODY * (3 * 2 + 12 * 5) + 70 * (3 + 12 * 5))
    attention = 4 * 2 * 6 * (3 * 2 + 12 * (pairs - 2))
    assert found == pytest.approx(
        {
            "sampling": matrices + attention,
            "update": 3 * 24 * forward,
            "reference": 24 * forward,
            "probe": 4 * 4 * forward,
        }
    )
    again = operations(SHAPE, replace(SIZES, checkpointing=True))
    assert again["update"] == pytest.approx(4 * 12 * forward)


@pytest.mark.parametrize("kind", ["qwen3", "gpt2", "llama"])
def test_the_shape_of_a_model_and_the_adapters_that_peft_makes(kind):
    model = small(kind)
    shape = estimate.model_shape(model)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.layers, shape.hidden, shape.queries, shape.vocabulary) == (2, 32, 32, 50)
    assert (shape.keys, shape.feed_forward) == ((32, 128) if kind == "gpt2" else (16, 96))
    adapted = with_lora(Policy(model, None, (0,), 64), rank=3, alpha=1.0, seed=0).model
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert estimate.trainable_parameters(shape, 3) == trained


def test_a_large_model_is_known_from_its_configuration_alone(tmp_path):
    size = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
    size |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": False}
    transformers.Qwen3Config(**size).save_pretrained(tmp_path)
    model = meta_policy(str(tmp_path), with_tokenizer=False).model
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    # The size of Qwen3-8B's weights as its model card has it, 8.2 billion.
    assert estimate.model_shape(model).parameters == 8_190_735_360


def small(kind, *, hidden=32, feed_forward=96, layers=2):
    size = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 4, "vocab_size": 50}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=hidden, n_layer=layers, n_head=4, vocab_size=50, n_positions=64)
    else:
        made = transformers.Qwen3Config if kind == "qwen3" else transformers.LlamaConfig
        size |= {"num_key_value_heads": 2, "head_dim": hidden // 4, "intermediate_size": feed_forward}
        config = made(**size, tie_word_embeddings=kind == "qwen3", max_position_embeddings=256)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().eval()


def allocated(work):
    """The most bytes that were allocated at once on the CPU while this ran, beyond those at its start."""
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        most = max(most, level)
    return most


CASES = {
    "float32": {},
    "float64 attention": {"float64_attention": True},
    "checkpointing": {"checkpointing": True},
    "bfloat16": {"compute": "bfloat16"},
    "LoRA": {"lora_rank": 4},
    "LoRA in bfloat16": {"lora_rank": 4, "compute": "bfloat16", "weights": "bfloat16"},
}


@pytest.mark.parametrize(
    ("case", "hidden", "feed_forward", "layers"),
    [("float32", 64, 192, 6), *((case, 128, 512, 4) for case in CASES)],
)
def test_activations_are_what_pytorch_allocates(case, hidden, feed_forward, layers):
    """A forward and backward pass of rows with filler, within a twentieth."""
    torch.set_default_dtype(torch.float32)
    given = replace(SIZES, prompt_tokens=64, new_tokens=64, micro_rows=8, **CASES[case])
    model = small("qwen3", hidden=hidden, feed_forward=feed_forward, layers=layers)
    model.set_attn_implementation("sdpa_float64" if given.float64_attention else "sdpa")
    model.to(getattr(torch, given.weights)).entrocraft_dtype = given.compute
    shape = estimate.model_shape(model)
    if given.lora_rank:
        model = with_lora(Policy(model, None, (0,), 256), rank=4, alpha=8.0, seed=0).model
    if given.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
    tokens = torch.zeros(8, 128, dtype=torch.long)
    attention = torch.ones(8, 128, dtype=torch.bool)
    attention[0, :3] = False
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def work():
        with computing(model):
            logits = completion_logits(model, tokens, attention, 1, 1.0)
        torch.autograd.grad(logits.sum(), parameters)

    gradients = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    cast = 2 * (shape.body + shape.head) if given.compute == "bfloat16" and given.weights == "float32" else 0
    expected = estimate.activation_bytes(shape, given, 8) + cast
    # At the first layers, where all gradients are there, most activations are gone: the sum is a bound.
    assert expected * 0.95 <= allocated(work) <= expected * 1.05 + gradients


def test_operations_are_what_pytorch_counts():
    """Eager attention computes the half above the diagonal too: twice the attention that is needed."""
    torch.set_default_dtype(torch.float32)
    model = small("qwen3")
    model.set_attn_implementation("eager")
    shape = estimate.model_shape(model)
    tokens = torch.zeros(3, 20, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        output = model(input_ids=tokens, logits_to_keep=8, use_cache=False).logits
    matrices, attention = forward_operations(shape, 3 * 20, 3 * 8, 3 * 20**2 / 2)
    # Some versions of transformers make the angles of 20 positions by a product with 4 frequencies.
    assert counter.get_total_flops() - (matrices + 2 * attention) in (0, 2 * 20 * 4)
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    # The embeddings have a gradient that is no matrix product.
    assert counter.get_total_flops() == pytest.approx(2 * (matrices + 2 * attention), rel=0.01)


def test_the_cache_is_as_large_as_the_models(shipped):
    model = load_policy("countdown-0.2m", device="cpu").model
    output = model(input_ids=torch.zeros(3, 7, dtype=torch.long), use_cache=True)
    held = sum(
        part.numel() * part.element_size()
        for layer in output.past_key_values.layers
        for part in (layer.keys, layer.values)
    )
    given = replace(SIZES, decoded_rows=3)
    assert estimate.cache_bytes(estimate.model_shape(model), given) == held
