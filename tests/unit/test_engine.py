"""The rollout engine: seats, refill, waves, memory, and what `rollout.engine` may name."""

import sys
from collections import Counter
from functools import partial

import pytest
import torch
import transformers

from trainer.config import RolloutConfig
from trainer.decoding import Decoder
from trainer.engine import ENGINES, Engine, build_engine
from trainer.model import Policy, positions
from trainer.network import going_on_from
from trainer.rollout import STATISTICS
from trainer.row_cache import RowCache, rows_can_join
from trainer.sampling import Sampling, draw, sample
from trainer.streams import TokenUniforms, stream_seed

UNIFORMS = TokenUniforms(stream_seed(0, "rollout", 0))
PROMPTS = [[5, 3, 7, 0, 4, 9], [2], [0, 6, 6], [11, 0], [2], [1, 2, 3, 4, 5, 6, 7, 8, 9, 1]]
GROUP, NEW_TOKENS = 3, 9
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPE |= {"intermediate_size": 32, "max_position_embeddings": 64, "initializer_range": 0.4, "vocab_size": 12}
SHAPE |= {"eos_token_id": 0, "bos_token_id": None, "pad_token_id": None}


def model_of(kind):
    """A tiny random model in float64 whose contexts differ."""
    torch.manual_seed(1)
    with torch.random.fork_rng():
        match kind:
            case "llama":
                model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
            case "sliding":  # every layer sees the last 4 tokens
                config = transformers.MistralConfig(**SHAPE, sliding_window=4)
                model = transformers.MistralForCausalLM(config)
            case "alternating":  # every second layer sees the last 4 tokens
                types = ["sliding_attention", "full_attention"]
                config = transformers.Gemma3TextConfig(**SHAPE, head_dim=4, sliding_window=4, layer_types=types)
                model = transformers.Gemma3ForCausalLM(config)
            case "recurrent":  # a recurrent layer and one of attention
                own = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 4}
                own |= {"linear_value_head_dim": 4, "layer_types": ["linear_attention", "full_attention"]}
                own |= {"num_experts": 0, "decoder_sparse_step": 0, "head_dim": 8}
                model = transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(**SHAPE, **own))
            case _:
                small = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.4}
                model = transformers.GPT2LMHeadModel(
                    transformers.GPT2Config(**small, vocab_size=12, eos_token_id=0, bos_token_id=None)
                )
    return model.double().eval()


def policy_of(kind, tiny):
    return tiny if kind == "qwen3" else Policy(model_of(kind), None, (0,), 64)


def row_by_row(policy, row):
    """The completion of one row, each token from a pass over the whole sequence: no cache, no batch, no padding."""
    prompt, completion, log_probs = PROMPTS[row // GROUP], [], []
    uniforms = UNIFORMS([row // GROUP], [row % GROUP], NEW_TOKENS)[0]
    for uniform in uniforms:
        with torch.no_grad():
            logits = policy.model(torch.tensor([prompt + completion])).logits[:, -1]
        token = int(draw(logits.softmax(-1), uniform[None]))
        completion.append(token)
        log_probs.append(float(logits.log_softmax(-1)[0, token]))
        if token in policy.stop_ids:
            break
    return completion, log_probs


def sampled(policy, slots=0, **options):
    return sample(policy, PROMPTS, GROUP, NEW_TOKENS, generator=UNIFORMS, slots=slots, **options)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2", "sliding", "alternating", "recurrent"])
def test_every_number_of_slots_gives_the_completions_of_a_loop_over_single_rows(kind, tiny):
    policy = policy_of(kind, tiny)
    with torch.no_grad():
        cache = policy.model(torch.tensor([[1, 2]]), use_cache=True).past_key_values
    assert rows_can_join(cache) == (kind in ("qwen3", "llama", "gpt2"))
    expected = [row_by_row(policy, row) for row in range(len(PROMPTS) * GROUP)]
    lengths = {len(completion) for completion, _ in expected}
    assert min(lengths) < 4
    assert NEW_TOKENS in lengths
    # transformers round some steps to float32 whatever the type; their order then shows
    tolerance = 1e-10 if kind in ("qwen3", "gpt2") else 1e-5
    for slots in (0, 1, 5):
        rollouts = sampled(policy, slots)
        assert rollouts.completions() == [completion for completion, _ in expected], slots
        for row, (completion, log_probs) in enumerate(expected):
            found = rollouts.log_prob[row, : len(completion)]
            torch.testing.assert_close(found, torch.tensor(log_probs), rtol=0, atol=tolerance)


def test_all_that_is_recorded_is_the_same_with_any_slots(tiny):
    options = {"statistics": True, "temperatures": (0.5, 2.0), "sampling": Sampling(0.8, top_p=0.9)}
    whole = sampled(tiny, **options)
    assert whole.influence.any()
    for slots in (1, 4, 6):
        some = sampled(tiny, slots, **options)
        for name in ("tokens", "attention", "mask", "finished"):
            assert torch.equal(getattr(some, name), getattr(whole, name)), name
        for name in STATISTICS:
            torch.testing.assert_close(getattr(some, name), getattr(whole, name), rtol=0, atol=1e-10)
        for temperature, values in whole.tempered.items():
            torch.testing.assert_close(some.tempered[temperature], values, rtol=0, atol=1e-10)


class Watched:
    """Sees every call of a model."""

    def __init__(self, model, monkeypatch):
        self.rows, self.columns, self.prefills, self.held = [], [], 0, []
        forward = model.forward

        def watching(*, input_ids, **inputs):
            (name,) = going_on_from(None, model)
            cache = inputs[name]
            output = forward(input_ids=input_ids, **inputs)
            if cache is None:
                self.prefills += len(input_ids)
                return output
            self.rows.append(len(input_ids))
            self.columns.append(cache.longest + 1)
            layer = cache.layers[0]
            self.held.append((layer.keys.shape[0], layer.keys.shape[2]))
            return output

        monkeypatch.setattr(model, "forward", watching)


@pytest.mark.parametrize("slots", [1, 3, 5, 8])
def test_no_more_is_held_than_slots_times_the_longest_live_row(tiny, monkeypatch, slots):
    fed, longest = Counter(), []
    advance = Decoder.advance

    def noting(self, tokens):
        fed.update(self.rows)
        longest.append(max(len(PROMPTS[row // GROUP]) + fed[row] for row in self.rows))
        return advance(self, tokens)

    monkeypatch.setattr(Decoder, "advance", noting)
    watched = Watched(tiny.model, monkeypatch)
    rollouts = sampled(tiny, slots)
    assert max(watched.rows) == slots
    assert watched.columns == longest
    assert watched.prefills == len(PROMPTS)
    assert all(rows <= slots and columns <= 10 + NEW_TOKENS for rows, columns in watched.held)
    # seats do not stay empty while rows wait: the passes are as many as the tokens need, up to the last rows
    steps = int((rollouts.lengths - 1).sum())
    assert len(watched.rows) <= -(-steps // slots) + NEW_TOKENS


def test_columns_that_no_live_row_needs_are_left_out(tiny, monkeypatch):
    watched = Watched(tiny.model, monkeypatch)
    # the long prompt first, alone in its seats for a while
    rollouts = sample(tiny, [PROMPTS[5], [2], [2]], 1, NEW_TOKENS, generator=UNIFORMS, slots=2, prompt_index=[5, 1, 4])
    lengths = rollouts.lengths.tolist()
    assert lengths[0] < NEW_TOKENS  # it leaves before the others
    assert max(watched.columns) == 10 + lengths[0] - 1
    assert watched.columns[-1] == 1 + max(lengths[1:]) - 1


def cache_of(rows, columns):
    """A plain cache of one layer: key of row r, column c is 100 r + c."""
    cache = transformers.DynamicCache()
    keys = (100 * torch.arange(rows)[:, None] + torch.arange(columns)).double()[:, None, :, None]
    cache.update(keys, -keys, 0)
    return cache


def written(cache, value):
    """What a layer returns after a step that writes this value in every row, as lists of rows."""
    cache.prepare()
    token = torch.full((cache.rows, 1, 1, 1), float(value), dtype=torch.float64)
    keys, values = cache.update(token, -token, 0)
    cache.advanced()
    assert torch.equal(keys, -values)
    return keys[:, 0, :, 0].tolist()


def test_a_row_cache_by_hand():
    cache = RowCache(cache_of(1, 1), rows=3, columns=40)
    cache.join(cache_of(2, 3), [1, 0], [2, 3])
    assert cache.get_seq_length() == 3
    assert cache.mask().tolist() == [[False, True, True, True], [True, True, True, True]]
    assert cache.lengths.tolist() == [2, 3]
    # row 0 is the source's second row without its first, padded column
    assert [row[-3:] for row in written(cache, 7)] == [[101, 102, 7], [1, 2, 7]]
    cache.leave([0], [1], 1)
    assert cache.lengths.tolist() == [4]
    assert cache.mask() is None
    assert written(cache, 8) == [[0, 1, 2, 7, 8]]
    cache.join(cache_of(1, 9), [0, 0], [9, 9])  # longer than what is there: everything moves to the right
    after = written(cache, 5)
    assert after[0][-6:] == [0, 1, 2, 7, 8, 5]
    assert after[1] == after[2] == [*range(9), 5]
    cache.leave([0], [2], 2)
    assert cache.mask() is None
    cache.leave([], [], 0)
    assert cache.get_seq_length() == 0
    cache.join(cache_of(1, 2), [0], [2])
    assert written(cache, 3) == [[0, 1, 3]]


def test_a_row_cache_grows_by_parts_and_shrinks_again():
    cache = RowCache(cache_of(1, 1), rows=4, columns=1000)
    cache.join(cache_of(1, 400), [0], [400])
    room = cache.layers[0].keys.shape
    assert room[2] == 501  # 401, and a quarter more
    cache.join(cache_of(1, 2), [0], [2])
    cache.leave([0], [1], 1)
    assert written(cache, 6) == [[0, 1, 6]]
    assert cache.layers[0].keys.shape[2] == 35
    for step in range(60):
        assert written(cache, step)[0][-1] == step
    assert cache.layers[0].keys.shape[2] < 100


def test_samples_of_a_prompt_that_is_seated_in_parts_share_its_computation(tiny, monkeypatch):
    watched = Watched(tiny.model, monkeypatch)
    sample(tiny, PROMPTS[:2], 7, 3, generator=UNIFORMS, slots=2)
    assert watched.prefills == 2


def test_records_keep_no_tie_to_inference_mode(tiny):
    rollouts = sampled(tiny, 5, statistics=True)
    weight = torch.ones(1, requires_grad=True)
    for name in STATISTICS:
        (getattr(rollouts, name) * weight).sum().backward()
    assert weight.grad.isfinite()


def test_training_after_sampling_finds_no_inference_tensors(tiny):
    rollouts = sampled(tiny)
    tokens, attention = rollouts.tokens, rollouts.attention
    tiny.model(tokens, attention_mask=attention.long(), position_ids=positions(attention)).logits.sum().backward()


def test_logits_with_nan_are_refused(tiny):
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight[3] = torch.nan
    with pytest.raises(ValueError, match="must have a finite logit in every row, and neither NaN"):
        sampled(tiny)


class Cacheless(torch.nn.Module):
    """A model that keeps nothing between calls."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids, **inputs):
        return transformers.modeling_outputs.CausalLMOutput(logits=torch.zeros(*input_ids.shape, 12))


def test_a_model_without_a_cache_is_refused():
    with pytest.raises(ValueError, match=r"must have a model that returns past_key_values; got .* Cacheless"):
        sampled(Policy(Cacheless(), None, (0,), 64))


@pytest.mark.parametrize("top_k", [0, 4])
def test_a_large_vocabulary_is_taken_a_few_rows_at_a_time(tiny, monkeypatch, top_k):
    sampling = Sampling(0.7, top_p=0.9, top_k=top_k)
    few = partial(sample, tiny, PROMPTS[:2], 2, 4, sampling, generator=UNIFORMS, statistics=True)
    whole = few()
    monkeypatch.setattr("entropy_theory.chunked.TILE", (12, 12))
    monkeypatch.setattr("entropy_theory.chunked.PANEL", (2, 2))  # two rows of 12 logits
    monkeypatch.setattr("trainer.recorder.GATHERED", 1)
    drawn = []
    monkeypatch.setattr("trainer.sampling.draw", lambda probs, u: drawn.append(len(probs)) or draw(probs, u))
    tiled = few()
    assert max(drawn) == 2
    assert torch.equal(tiled.tokens, whole.tokens)
    for name in STATISTICS:
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), rtol=0, atol=1e-12)


def test_nothing_is_sorted_unless_truncation_asks(tiny, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("sorted")

    monkeypatch.setattr(torch.Tensor, "sort", refuse)
    monkeypatch.setattr(torch.Tensor, "topk", refuse)
    sampled(tiny)
    with pytest.raises(AssertionError, match="sorted"):
        sampled(tiny, sampling=Sampling(top_p=0.9))


OWN = """
from trainer.sampling import sample
calls = []

def engine(policy, prompts, *arguments, **options):
    calls.append(options)
    return sample(policy, prompts, *arguments, **options)

class Made:
    def __call__(self, *arguments, **options):
        return engine(*arguments, **options)

constant = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_engine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_engine"
    sys.modules.pop("own_engine", None)


def test_engines_are_named_built_in_or_module_and_name(own, tiny):
    assert build_engine(RolloutConfig()) is ENGINES["cache"] is sample
    for name in ("engine", "Made"):
        built = build_engine(RolloutConfig(engine=f"{own}:{name}"))
        assert isinstance(built, Engine)
        rollouts = built(tiny, PROMPTS, GROUP, NEW_TOKENS, generator=UNIFORMS, slots=4)
        assert torch.equal(rollouts.tokens, sampled(tiny).tokens)
    assert len(sys.modules[own].calls) == 2


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        (
            "cach",
            ValueError,
            r"rollout.engine='cach' must be one of \['cache'\], or module:name.* Did you mean 'cache'",
        ),
        ("vllm", ValueError, r"rollout.engine='vllm' must be one of"),
        ("nowhere:engine", ImportError, "rollout.engine='nowhere:engine' must name something importable"),
        ("own_engine:nothing", ImportError, "must name something importable"),
        ("own_engine:constant", ValueError, "must name a function, or a class whose instances can be called; got int"),
    ],
)
def test_other_engines_are_refused(own, engine, error, message):
    with pytest.raises(error, match=message):
        build_engine(RolloutConfig(engine=engine))


def test_a_negative_number_of_slots_is_refused():
    with pytest.raises(ValueError, match=r"rollout.slots=-1 must not be negative"):
        RolloutConfig(slots=-1)
