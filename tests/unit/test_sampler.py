"""The sampler on whole models: what it records, and that a batch's layout changes nothing."""

import math

import pytest
import torch

from trainer.model import completion_logits
from trainer.rollout import Rollouts, pad_left
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms, python_stream, stream_seed
from trainer.tasks.countdown import Countdown

UNIFORMS = TokenUniforms(stream_seed(0, "rollout", 0))
RECORDED = ("log_prob", "entropy", "entropy_t1", "influence", "curvature")
# of different lengths, with token 0 (the filler, and the end token) inside and at either end; the second comes twice
PROMPTS = [[5, 3, 7, 0, 4, 9], [2], [0, 6, 6], [11, 0], [2]]
NEW_TOKENS = 9
AS_THEY_ARE = Sampling()


def countdown_prompts(policy, count):
    generator = python_stream(4, "prompts")
    return policy.encode([Countdown().row("test", generator=generator)["prompt"] for _ in range(count)])


def sample_tiny(policy, places=(0, 1, 2, 3, 4), group_size=3, sampling=AS_THEY_ARE, prompt_index=None, **options):
    return sample(
        policy,
        [PROMPTS[place] for place in places],
        group_size,
        NEW_TOKENS,
        sampling,
        generator=UNIFORMS,
        prompt_index=list(places) if prompt_index is None else prompt_index,
        **options,
    )


def statistics_of(logits, token, temperature):
    """What the sampler records of a token, from the raw logits `[V]` of its context, by autograd."""
    scaled = (logits.double() / temperature).requires_grad_()
    log_prob = scaled.log_softmax(-1)

    def entropy_of(z):
        return -(z.softmax(-1) * z.log_softmax(-1)).sum(-1)

    (direction,) = torch.autograd.grad(log_prob[token], scaled, retain_graph=True)
    _, slope = torch.autograd.functional.jvp(entropy_of, scaled.detach(), direction)
    _, curved = torch.autograd.functional.vhp(entropy_of, scaled.detach(), direction)
    return {
        "log_prob": log_prob[token].item(),
        "entropy": entropy_of(scaled).item(),
        "entropy_t1": entropy_of(logits.double()).item(),
        "influence": slope.item(),
        "curvature": 0.5 * (curved @ direction).item(),
    }


def differences_from_teacher_forcing(policy, prompts, rollouts, temperature, rows):
    """The largest difference of each recorded column from a forward pass over each row alone, without padding."""
    largest = dict.fromkeys(RECORDED, 0.0)
    for row in rows:
        prompt, completion = prompts[row // rollouts.group_size], rollouts.completions()[row]
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        for place, token in enumerate(completion):
            for name, value in statistics_of(logits[place], token, temperature).items():
                largest[name] = max(largest[name], abs(value - getattr(rollouts, name)[row, place].item()))
    return largest


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_records_are_those_of_a_teacher_forced_pass_in_float64(tiny, temperature):
    rollouts = sample_tiny(tiny, sampling=Sampling(temperature), statistics=True)
    largest = differences_from_teacher_forcing(tiny, PROMPTS, rollouts, temperature, range(15))
    assert max(largest.values()) < 1e-10, largest
    assert rollouts.mean(rollouts.entropy) > 0.1
    differ = (rollouts.entropy - rollouts.entropy_t1).abs().max()
    assert differ == 0 if temperature == 1 else differ > 0.1


def test_records_are_those_of_a_teacher_forced_pass_on_the_shipped_model_in_float32(shipped):
    prompts = countdown_prompts(shipped, 6)
    rollouts = sample(shipped, prompts, 4, 13, generator=UNIFORMS, statistics=True)
    largest = differences_from_teacher_forcing(shipped, prompts, rollouts, 1.0, range(24))
    assert max(largest.values()) < 1e-5, largest


def test_records_of_a_float64_model_are_float64_whatever_torchs_default(tiny):
    torch.set_default_dtype(torch.float32)  # as in a run
    rollouts = sample_tiny(tiny, statistics=True)
    assert {getattr(rollouts, name).dtype for name in RECORDED} == {torch.float64}


def test_without_statistics_the_rest_is_the_same(tiny):
    bare, full = sample_tiny(tiny), sample_tiny(tiny, statistics=True)
    assert not bare.influence.any()
    assert not bare.curvature.any()
    assert full.influence.any()
    for name in ("tokens", "mask", "log_prob", "entropy", "entropy_t1", "finished"):
        assert torch.equal(getattr(bare, name), getattr(full, name)), name


def test_records_are_of_the_policy_before_truncation(tiny):
    rollouts = sample_tiny(tiny, sampling=Sampling(temperature=0.7, top_p=0.6, top_k=4), statistics=True)
    largest = differences_from_teacher_forcing(tiny, PROMPTS, rollouts, 0.7, range(15))
    assert max(largest.values()) < 1e-10, largest
    for row, completion in enumerate(rollouts.completions()):
        with torch.no_grad():
            prompt = PROMPTS[row // 3]
            logits = tiny.model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        ranks = (logits > logits.gather(-1, torch.tensor(completion)[:, None])).sum(-1)
        assert (ranks < 4).all()


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (2.0, 5)])
def test_every_token_is_drawn_with_its_own_uniform_at_the_temperature(tiny, temperature, top_k):
    rollouts = sample_tiny(tiny, sampling=Sampling(temperature, top_k=top_k))
    for row, completion in enumerate(rollouts.completions()):
        prompt = PROMPTS[row // 3]
        with torch.no_grad():
            logits = tiny.model(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        uniforms = UNIFORMS([row // 3], [row % 3], NEW_TOKENS)[0].tolist()
        for place, token in enumerate(completion):
            weights = (logits[place] / temperature).exp().tolist()
            if top_k:
                weights = [weight if weight >= sorted(weights)[-top_k] else 0.0 for weight in weights]
            below = sum(weights[:token]) / sum(weights)
            assert below <= uniforms[place] < below + weights[token] / sum(weights)


def test_a_uniform_policy_has_entropy_log_v_per_token(tiny):
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight.zero_()  # tied to the output: all logits are 0
    rollouts = sample_tiny(tiny, sampling=Sampling(0.5), statistics=True)
    for values in (rollouts.entropy, rollouts.entropy_t1, -rollouts.log_prob):
        assert rollouts.mean(values) == pytest.approx(math.log(12), abs=1e-12)
    assert rollouts.influence.abs().max() < 1e-12


def test_completions_end_with_their_first_stop_token(tiny):
    rollouts = sample_tiny(tiny, group_size=20)
    lengths = rollouts.lengths.tolist()
    assert rollouts.tokens.shape[1] == 6 + max(lengths)
    for row, completion in enumerate(rollouts.completions()):
        stops = [place for place, token in enumerate(completion) if token in tiny.stop_ids]
        assert bool(rollouts.finished[row]) == bool(stops)
        assert len(completion) == (stops[0] + 1 if stops else NEW_TOKENS)
        assert rollouts.mask[row].tolist() == [place < len(completion) for place in range(max(lengths))]
        assert torch.equal(rollouts.attention[row, 6:], rollouts.mask[row])
        for name in RECORDED[:3]:
            assert not getattr(rollouts, name)[row, len(completion) :].any()
    assert 1 in lengths
    assert 0.1 < rollouts.finished.double().mean() < 0.9


@pytest.mark.parametrize("places", [[4, 3, 2, 1, 0], [2, 0, 4], [1], [3, 3]])
def test_prompts_in_another_order_or_batch_give_the_same_completions(tiny, places):
    together = sample_tiny(tiny).completions()
    again = sample_tiny(tiny, places).completions()
    assert again == [together[3 * place + g] for place in places for g in range(3)]
    assert len(set(map(tuple, together))) > 10


@pytest.mark.parametrize("group_size", [1, 2, 7])
def test_a_larger_group_only_adds_samples(tiny, group_size):
    together, other = sample_tiny(tiny).completions(), sample_tiny(tiny, group_size=group_size).completions()
    for place in range(len(PROMPTS)):
        for g in range(min(3, group_size)):
            assert other[group_size * place + g] == together[3 * place + g]


def test_equal_prompts_are_different_groups(tiny):
    completions = sample_tiny(tiny).completions()
    assert completions[3:6] != completions[12:15]
    same_index = sample_tiny(tiny, [1, 4], prompt_index=[1, 1]).completions()
    assert same_index[:3] == same_index[3:] == completions[3:6]


@pytest.mark.parametrize("model", ["shipped", "shipped64"])
def test_the_shipped_models_completions_do_not_depend_on_the_batch(model, request):
    # in float32 a probability may move by 1e-7 with the batch's shape: over 300 tokens, odds of 1e-4 to change a draw
    policy = request.getfixturevalue(model)
    prompts = countdown_prompts(policy, 24)
    together = sample(policy, prompts, 4, 13, generator=UNIFORMS).completions()
    order = [17, 3, 8, 0, 22]
    part = [prompts[place] for place in order]
    again = sample(policy, part, 2, 13, generator=UNIFORMS, prompt_index=order).completions()
    assert again == [together[4 * place + g] for place in order for g in range(2)]


def test_padding_is_told_by_position_whatever_token_fills_it(tiny):
    rollouts = sample_tiny(tiny)
    plain = completion_logits(tiny.model, rollouts.tokens, rollouts.attention, rollouts.mask.shape[1], 1.0)
    for filler in (1, 7):
        tokens = rollouts.tokens.masked_fill(~rollouts.attention, filler)
        refilled = completion_logits(tiny.model, tokens, rollouts.attention, rollouts.mask.shape[1], 1.0)
        torch.testing.assert_close(refilled[rollouts.mask], plain[rollouts.mask], rtol=0, atol=1e-10)


def test_pad_left_by_hand():
    tokens, attention = pad_left([[5, 0], [7, 8, 9]], torch.device("cpu"))
    assert tokens.tolist() == [[0, 5, 0], [7, 8, 9]]
    assert attention.tolist() == [[False, True, True], [True, True, True]]


def test_rows_cut_off_the_padding_that_none_of_them_needs(tiny):
    rollouts = sample_tiny(tiny, statistics=True)
    lengths = rollouts.lengths.tolist()
    index = torch.tensor([row for row in range(3, 15) if lengths[row] < max(lengths)])  # rows 0 to 2: the long prompt
    part = rollouts.rows(index)
    longest, width = max(lengths[row] for row in index), max(len(PROMPTS[row // 3]) for row in index)
    assert part.mask.shape[1] == longest < rollouts.mask.shape[1]
    assert part.tokens.shape == part.attention.shape == (len(index), width + longest)
    assert part.completions() == [rollouts.completions()[row] for row in index]
    assert torch.equal(part.attention[:, -longest:], part.mask)
    for name in RECORDED:
        assert torch.equal(getattr(part, name)[part.mask], getattr(rollouts, name)[index][rollouts.mask[index]])
    before = completion_logits(tiny.model, rollouts.tokens, rollouts.attention, rollouts.mask.shape[1], 1.0)[index]
    after = completion_logits(tiny.model, part.tokens, part.attention, longest, 1.0)
    torch.testing.assert_close(after[part.mask], before[rollouts.mask[index]], rtol=0, atol=1e-10)


def test_mean_is_over_tokens_not_rows():
    mask = torch.tensor([[True, False, False], [True, True, True]])
    values = torch.tensor([[4.0, 99.0, 99.0], [0.0, 1.0, 3.0]])
    blank = torch.zeros(2, 3)
    tokens = torch.zeros(2, 4, dtype=torch.long)
    rollouts = Rollouts(tokens, tokens.bool(), mask, *[blank] * 6, mask[:, 0], 1)
    assert rollouts.mean(values) == 2.0
    assert rollouts.lengths.tolist() == [1, 3]
    assert rollouts.completions() == [[0], [0, 0, 0]]


def test_sampling_leaves_the_global_generator_and_the_model_alone(tiny):
    before = torch.get_rng_state()
    weights = [parameter.clone() for parameter in tiny.model.parameters()]
    first, second = sample_tiny(tiny), sample_tiny(tiny)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(now, then) for now, then in zip(tiny.model.parameters(), weights, strict=True))
    assert torch.equal(first.tokens, second.tokens)
