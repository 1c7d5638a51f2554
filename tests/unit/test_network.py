"""Scoring completions: the same numbers and gradients as a plain softmax over whole rows of logits, for any model."""

import copy
import math

import pytest
import torch
import transformers

import trainer.network
from trainer.model import completion_logits, load_policy, with_lora
from trainer.network import Block, Network, Reference, going_on_from, has_plain_head, least_saved, shared_prompts

FLOAT32 = 1e-5
VOCABULARY, TEMPERATURE = 40, 0.7
SIZE = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
# What differs: tied or not, learned positions, a cap on the logits, a scale, sliding windows, a bias.
MODELS = {
    "qwen3-tied": lambda: transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**SIZE, **HEADS, tie_word_embeddings=True)
    ),
    "llama-untied": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZE, **HEADS, tie_word_embeddings=False)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=64)
    ),
    "gemma2-capped": lambda: transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(**SIZE, **HEADS, final_logit_softcapping=0.05, sliding_window=3)
    ),
    "granite-scaled": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(**{**SIZE, **HEADS, "logits_scaling": 3.0})
    ),
    "mistral-sliding": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(**SIZE, **HEADS, sliding_window=3)
    ),
    "phi-bias": lambda: transformers.PhiForCausalLM(
        transformers.PhiConfig(**{**SIZE, "num_attention_heads": 4, "max_position_embeddings": 64})
    ),
}
PLAIN_HEADS = {"qwen3-tied", "llama-untied", "gpt2", "mistral-sliding"}


def made(name):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    model = MODELS[name]().float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # As large as trained weights, biases included, so that a wrong mask or a forgotten bias shows.
            parameter.add_(0.2 * torch.randn(parameter.shape))
    torch.set_default_dtype(torch.float64)
    return model


def block(lengths=(3, 5, 3, 1), completions=(4, 2, 6, 6, 1, 3), prompt_of=(0, 0, 1, 2, 3, 3)):
    """Rows that share some prompts, of different lengths, padded on both sides with a token that is also used."""
    generator = torch.Generator().manual_seed(1)
    prompts = [torch.randint(VOCABULARY, (length,), generator=generator) for length in lengths]
    width, length = max(lengths), max(completions)
    tokens = torch.zeros(len(completions), width + length, dtype=torch.long)
    attention = torch.zeros_like(tokens, dtype=torch.bool)
    for row, (size, prompt) in enumerate(zip(completions, prompt_of, strict=True)):
        ids = torch.cat([prompts[prompt], torch.randint(VOCABULARY, (size,), generator=generator)])
        first = width - len(prompts[prompt])
        tokens[row, first : first + len(ids)] = ids
        attention[row, first : first + len(ids)] = True
    return Block(tokens, attention, attention[:, width:], TEMPERATURE)


def plain(model, given):
    """Each row alone, without padding, by the model's own logits."""
    log_prob, entropy = torch.zeros(given.mask.shape), torch.zeros(given.mask.shape)
    for row, (tokens, attention, mask) in enumerate(zip(given.tokens, given.attention, given.mask, strict=True)):
        ids, size = tokens[attention], int(mask.sum())
        logits = model(input_ids=ids[None]).logits[0, -size - 1 : -1] / TEMPERATURE
        log_probs = logits.double().log_softmax(-1)
        log_prob[row, :size] = log_probs.gather(-1, ids[-size:, None])[:, 0]
        entropy[row, :size] = -(log_probs.exp() * log_probs).sum(-1)
    return log_prob, entropy


def gradient(model, loss):
    """The gradient in all parameters as one vector, 0 where one takes no part."""
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([grad.flatten().double() for grad in grads])


def assert_alike(model, network, given, **options):
    scored, (log_prob, entropy) = network(given, **options), plain(model, given)
    torch.testing.assert_close(scored.log_prob.double(), log_prob, atol=FLOAT32, rtol=FLOAT32)
    torch.testing.assert_close(scored.entropy.double(), entropy, atol=FLOAT32, rtol=FLOAT32)
    weights = torch.randn(log_prob.shape, generator=torch.Generator().manual_seed(2))
    ours = gradient(model, (weights * scored.log_prob).sum() + (weights.flip(0) * scored.entropy).sum())
    theirs = gradient(model, (weights * log_prob).sum() + (weights.flip(0) * entropy).sum())
    assert float((ours - theirs).norm() / theirs.norm()) < 10 * FLOAT32
    return scored


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_softmax_of_the_models_own_logits(name):
    model = made(name)
    assert has_plain_head(model) == (name in PLAIN_HEADS)
    assert_alike(model, Network(model), block())


def test_a_mild_cap_shows_through_the_rounding_of_bfloat16():
    model = made("gemma2-capped")
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(3.5)
    model.config.final_logit_softcapping, model.entrocraft_dtype = 30.0, "bfloat16"
    assert 8 < float(model(input_ids=torch.tensor([[0, VOCABULARY - 1]])).logits.abs().max()) < 11
    assert not has_plain_head(model)


def test_a_bias_that_is_zero_yet_can_be_trained():
    model = made("phi-bias")
    with torch.no_grad():
        model.lm_head.bias.zero_()
    assert not has_plain_head(model)


@pytest.mark.parametrize("name", ["qwen3-tied", "gpt2", "mistral-sliding"])
@pytest.mark.parametrize(
    "given",
    [
        block(lengths=(4,), completions=(3, 5, 1), prompt_of=(0, 0, 0)),
        block(lengths=(4, 4), completions=(1, 1, 1, 1), prompt_of=(0, 1, 0, 1)),
        block(lengths=(2, 6), completions=(4, 4), prompt_of=(0, 1)),
        block(lengths=(3, 2), completions=(4, 2, 3), prompt_of=(0, 1, 0)),
    ],
    ids=["one prompt", "one token", "nothing shared", "apart"],
)
def test_sharing_prompts_changes_nothing(name, given):
    model = made(name)
    assert_alike(model, Network(model), given)


def test_prompts_that_differ_in_their_filler_alone_are_one_and_others_are_not():
    given = block(lengths=(2, 3), completions=(2, 2, 2), prompt_of=(0, 0, 1))
    tokens = given.tokens.clone()
    tokens[0, 0] = 7  # filler of the first row
    found = shared_prompts(given._replace(tokens=tokens))
    assert found.of_row.tolist()[:2] == [found.of_row[0]] * 2
    assert len(found.block.tokens) == 2
    # a real token equal to the filler is none
    tokens = torch.zeros(2, 4, dtype=torch.long)
    attention = torch.tensor([[False, True, True, True], [True, True, True, True]])
    assert shared_prompts(Block(tokens, attention, attention[:, 2:], 1.0)) is None


def test_prompts_are_shared_where_that_saves_enough_tokens():
    given = block(lengths=(4,), completions=(2, 2, 2), prompt_of=(0, 0, 0))
    saved = 2 * (given.tokens.shape[1] - 2)
    assert shared_prompts(given, saved) is not None
    assert shared_prompts(given, saved + 1) is None


def test_off_the_cpu_a_second_pass_must_be_worth_its_launches():
    """The larger the layers, the fewer tokens; embeddings are looked up, not multiplied."""
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "hidden_size": 16}

    def least(layers, vocabulary, width, device="meta"):
        shape = {"num_hidden_layers": layers, "vocab_size": vocabulary, "intermediate_size": width}
        with torch.device(device):
            return least_saved(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape, **sizes)))

    assert least(2, 64, 32, "cpu") == 1
    # four matrices of attention with two norms of heads, three of the block with two norms; and one norm at the end
    layer = 4 * 16**2 + 2 * 8 + 3 * 16 * 32 + 2 * 16
    assert least(2, 64, 32) == least(2, 9999, 32) == math.ceil(1e11 * 2 / (2 * layer + 16))
    assert least(1, 64, 64) < least(1, 64, 32)


def test_a_large_vocabulary_is_scored_in_blocks(monkeypatch):
    model, given = made("llama-untied"), block()
    monkeypatch.setattr(trainer.network, "SMALL_VOCABULARY", VOCABULARY - 1)
    assert_alike(model, Network(model), given)


@pytest.mark.parametrize("name", ["qwen3-tied", "gemma2-capped"])
def test_logits_where_they_are_asked_for(name):
    model, given = made(name), block()
    scored = assert_alike(model, Network(model), given, logits=True)
    assert scored.logits.shape == (*given.mask.shape, VOCABULARY)
    chosen = scored.logits.log_softmax(-1).gather(-1, given.tokens[:, -6:, None])[..., 0]
    torch.testing.assert_close(chosen[given.mask], scored.log_prob[given.mask], atol=FLOAT32, rtol=FLOAT32)


def test_gradient_checkpointing_changes_no_number_and_saves_activations(tmp_path, shipped):
    shipped.save(tmp_path)
    plain_policy, lean = (
        load_policy(str(tmp_path), device="cpu", gradient_checkpointing=value) for value in (False, True)
    )
    given = block()
    results, held = [], []
    for policy in (plain_policy, lean):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda value, kept=kept: kept.append(value) or value, lambda v: v
        ):
            scored = Network(policy.model)(given)
        held.append(sum(value.numel() for value in kept))
        results.append((scored.log_prob.detach(), gradient(policy.model, (scored.log_prob + scored.entropy).sum())))
        assert not any(module.training for module in policy.model.modules())
    torch.testing.assert_close(results[0][0], results[1][0], atol=FLOAT32, rtol=FLOAT32)
    assert float((results[0][1] - results[1][1]).norm() / results[0][1].norm()) < 10 * FLOAT32
    assert held[1] < held[0] / 2
    # decoding with a cache goes on working
    assert lean.model(input_ids=given.tokens[:1], use_cache=True).past_key_values.get_seq_length() == 11


def test_dropout_in_layers_that_recompute_themselves_is_refused(tmp_path, shipped):
    config = transformers.OPTConfig(
        vocab_size=106, hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=2, dropout=0.1
    )
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path)
    shipped.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"without dropout.*dropout in its config\.json"):
        load_policy(str(tmp_path), gradient_checkpointing=True)


def test_bfloat16_weights_and_computation_are_near_and_scored_in_float32(tmp_path, shipped):
    shipped.save(tmp_path)
    exact = Network(shipped.model)(block()).log_prob.detach()
    for weights in ("float32", "bfloat16"):
        policy = load_policy(str(tmp_path), dtype="bfloat16", weights=weights, device="cpu")
        assert {parameter.dtype for parameter in policy.model.parameters()} == {getattr(torch, weights)}
        network = Network(policy.model)
        assert network.plain_head
        scored = network(block())
        assert scored.log_prob.dtype == scored.entropy.dtype == torch.float32
        difference = (scored.log_prob.detach() - exact).abs()
        assert 0 < float(difference.max()) < 0.5
        assert float(difference.mean()) < 0.05
        scored.log_prob.sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in policy.model.parameters())


def test_the_reference_under_lora_is_the_model_without_its_adapters(tmp_path, shipped):
    torch.set_default_dtype(torch.float32)
    shipped.save(tmp_path)
    policy = with_lora(load_policy(str(tmp_path), device="cpu"), rank=2, alpha=4.0, seed=0)
    network, given = Network(policy.model), block()
    assert network.plain_head
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.3)
    scored, reference = network(given), Reference(network, adapters=policy.model).log_prob(given)
    torch.testing.assert_close(reference, Network(shipped.model)(given).log_prob, atol=FLOAT32, rtol=FLOAT32)
    assert float((scored.log_prob - reference).detach().abs().max()) > 0.1
    scored.log_prob.sum().backward()
    assert all(parameter.grad is not None for parameter in trained)


def test_a_reference_that_is_a_copy_stays_what_it_was(shipped):
    model, given = copy.deepcopy(shipped.model), block()
    reference = Reference(Network(copy.deepcopy(model).requires_grad_(False)))
    before = reference.log_prob(given)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert torch.equal(reference.log_prob(given), before)
    assert not before.requires_grad


def test_logits_that_are_not_finite_come_out_as_nan_instead_of_stopping_the_run():
    model = made("llama-untied")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("inf"))
    scored = Network(model)(block())
    assert bool(scored.log_prob[block().mask].isnan().all())


def test_right_padding_is_left_alone():
    """Filler on the right changes no number of a real token, and filler on the left none either."""
    model = made("qwen3-tied")
    given = block(lengths=(3, 3), completions=(2, 6), prompt_of=(0, 1))
    wide, alone = (
        Network(model)(given),
        Network(model)(Block(*(part[:1, :5] for part in given[:2]), given.mask[:1, :2], TEMPERATURE)),
    )
    torch.testing.assert_close(wide.log_prob[0, :2], alone.log_prob[0], atol=FLOAT32, rtol=FLOAT32)
    logits = completion_logits(model, given.tokens, given.attention, 6, TEMPERATURE)
    chosen = logits.log_softmax(-1).gather(-1, given.tokens[:, -6:, None])[..., 0]
    torch.testing.assert_close(wide.log_prob[1], chosen[1], atol=FLOAT32, rtol=FLOAT32)


def test_the_cache_goes_by_the_name_that_the_model_gives_it():
    class Renamed(torch.nn.Module):
        def forward(self, input_ids, cache=None): ...

    class Remote(torch.nn.Module):
        def forward(self, input_ids, past_key_values=None, **inputs): ...

    assert going_on_from(3, Renamed()) == {"cache": 3}
    assert going_on_from(3, Remote()) == {"past_key_values": 3}
