"""What every row of the table must do, whatever it computes: one test of each rule, over all rows.

A new row is covered by adding it to the table; only a method whose rows interact otherwise than its kind does needs a
word in the exceptions below.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from trainer.methods.pipeline import mini_batch_rows
from trainer.methods.stages import (
    Band,
    Direction,
    Filtered,
    Groups,
    Observation,
    Response,
    Stateless,
    TokenBatch,
    TokenRecord,
    as_controller,
    needs_of,
)
from trainer.methods.table import METHODS, STAGES, Method, build, find

P, G, T, V = 4, 5, 3, 7
BAND = Band(0.8, 1.0)
ENTROPIES = {"below": 0.5, "inside": 0.9, "above": 1.4}
GROUP_STAGES = ("shaping", "filter")
TOKEN_STAGES = ("token_weight", "clip", "terms")


@dataclass(frozen=True)
class Variant(Method):
    """A row with options under which it asks for other things."""

    given: Mapping[str, Any] = field(default_factory=dict)

    def required_options(self):
        return {**super().required_options(), **self.given}


def variant(stage, name, **given):
    row = find(stage, name)
    return Variant(row.name, row.stage, row.object, row.source, row.ours, given)


VARIANTS = [
    *(variant("filter", name, influence="directional") for name in ("rejection", "soft", "solved_bonus")),
    variant("filter", "rejection", rule="fewest", side="below", gain=2.0),
    variant("filter", "soft", influence="directional", level="token", dead_band=0.5),
]


def method_of(row):
    """The row's method as a controller, with example values for options that have no default."""
    return as_controller(build(row.stage, row.name, row.required_options()))


def rows(*stages):
    every = [(row, f"{row.stage}-{row.name}") for row in METHODS]
    every += [(row, "-".join(map(str, (row.stage, row.name, *row.given.values())))) for row in VARIANTS]
    return [pytest.param(row, id=name) for row, name in every if row.stage in stages]


def logits_of(repeats, seed):
    return 2 * torch.randn(*repeats, P, G, T, V, generator=torch.Generator().manual_seed(seed))


def lengths_of(repeats):
    return (torch.arange(P * G).reshape(P, G) % T + 1).expand(*repeats, P, G)


def record_of(repeats, temperatures, seed=0):
    logits = logits_of(repeats, seed)
    mask = torch.arange(T) < lengths_of(repeats)[..., None]
    tokens = torch.randint(V, mask.shape, generator=torch.Generator().manual_seed(seed + 1))[..., None]
    log_probs = logits.log_softmax(-1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum(-1)
    discriminator = probs * (log_probs + entropy[..., None])
    values = {
        "log_prob": log_probs.gather(-1, tokens)[..., 0],
        "entropy": entropy,
        "influence": (probs * discriminator).sum(-1) - discriminator.gather(-1, tokens)[..., 0],
        "responsiveness": discriminator.square().sum(-1),
    }
    tempered = {t: (logits / t).log_softmax(-1).gather(-1, tokens)[..., 0].masked_fill(~mask, 0) for t in temperatures}
    return TokenRecord(mask, **{k: v.masked_fill(~mask, 0.0) for k, v in values.items()}, tempered=tempered)


def groups_of(repeats=(), entropy=0.5, rewards=None, temperatures=(0.8, 1.2)):
    if rewards is None:
        generator = torch.Generator().manual_seed(7)
        rewards = torch.where(torch.rand(*repeats, P, G, generator=generator) < 0.4, 1.0, -1.0)
    advantages = rewards - rewards.mean(-1, keepdim=True)
    entropies = torch.full(repeats, entropy)
    record = record_of(repeats, temperatures)
    generator = torch.Generator().manual_seed(8)
    slopes = torch.randn(record.mask.shape, generator=generator).masked_fill(~record.mask, 0.0)
    return Groups(
        rewards,
        advantages,
        entropies,
        BAND,
        3,
        record,
        response=Response.of_momentum(0.9, updates=2),
        direction=Direction(0.1 * slopes, torch.full(repeats, 0.2), torch.full(repeats, -0.01)),
        uniforms=torch.rand(rewards.shape, generator=generator),
    )


def batch_of(repeats=(), seed=0, advantages=None):
    """Rows of tokens under a policy that has moved a little from the one that sampled."""
    record = record_of(repeats, (), seed)
    flat = {name: getattr(record, name).flatten(-3, -2) for name in ("mask", "log_prob")}
    logits = logits_of(repeats, seed).flatten(-4, -3)
    generator = torch.Generator().manual_seed(seed + 2)
    moved = logits + 0.3 * torch.randn(logits.shape, generator=generator)
    tokens = torch.randint(V, record.mask.shape, generator=torch.Generator().manual_seed(seed + 1)).flatten(-3, -2)
    log_probs = moved.log_softmax(-1)
    mask = flat["mask"]
    if advantages is None:
        advantages = torch.randn(*repeats, P * G, 1, generator=generator).expand(mask.shape)
    reference = flat["log_prob"] + 0.1 * torch.randn(mask.shape, generator=generator)
    return TokenBatch(
        log_prob=log_probs.gather(-1, tokens[..., None])[..., 0].masked_fill(~mask, 0.0),
        old_log_prob=flat["log_prob"],
        advantages=advantages.masked_fill(~mask, 0.0),
        mask=mask,
        entropy=-(log_probs.exp() * log_probs).sum(-1).masked_fill(~mask, 0.0),
        reference_log_prob=reference.masked_fill(~mask, 0.0),
        logits=moved,
        noise=torch.rand(mask.shape, generator=generator),
    )


def observations(repeats=()):
    """A run that goes above and below its band."""
    for step, entropy in enumerate((1.3, 0.9, 0.4, 0.3, 1.2)):
        spread = 0.01 * torch.arange(max(1, *repeats, 1)).double().reshape(repeats) if repeats else torch.tensor(0.0)
        yield Observation(
            step,
            torch.full(repeats, entropy) + spread,
            BAND,
            measured_change=torch.full(repeats, -0.02) + spread,
            predicted_change=torch.full(repeats, -0.03),
            progress=(step + 1) / 5,
        )


def step(row, state, observation, repeats=()):
    """What the method remembers and reports of a step, in which a filter had decided too."""
    method = method_of(row)
    if row.stage == "filter":
        observation = replace(observation, info=decide(method, groups_of(repeats), state).info)
    return method.step(state, observation)


def state_after(row, repeats=(), steps=5):
    state = method_of(row).start()
    for observation in list(observations(repeats))[:steps]:
        state, _ = step(row, state, observation, repeats)
    return state


def tensors_of(value):
    """All tensors of a decision, by name."""
    if isinstance(value, torch.Tensor):
        return {"": value}
    found = {}
    for item in fields(value):
        part = getattr(value, item.name)
        if isinstance(part, torch.Tensor):
            found[item.name] = part
    return found


def decide(method, given, state=None):
    return method.decide(method.start() if state is None else state, given)


def given_of(row, repeats=()):
    return groups_of(repeats) if row.stage in GROUP_STAGES else batch_of(repeats)


def test_every_row_is_of_a_stage_and_says_what_it_is():
    names = [(row.stage, row.name) for row in METHODS]
    assert len(set(names)) == len(names)
    for row in METHODS:
        assert row.stage in STAGES
        assert row.summary.endswith("."), row.name
        assert row.source, row.name
        assert "Source:" in row.object.__doc__ or row.stage == "schedule" or row.name == "none", row.name


@pytest.mark.parametrize("row", rows("advantage"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_estimators_keep_shape_type_and_inputs_and_survive_equal_groups(row, dtype):
    estimator = build(row.stage, row.name, row.required_options())
    for rewards in (torch.ones(2, P, G), -torch.ones(2, P, G), torch.zeros(2, P, G), groups_of((2,)).rewards):
        rewards = rewards.to(dtype)
        before = rewards.clone()
        found = estimator(rewards)
        assert found.shape == rewards.shape
        assert found.dtype == dtype
        assert bool(found.isfinite().all())
        assert torch.equal(rewards, before)
        torch.testing.assert_close(found[1], estimator(rewards[1]))  # repeats do not mix
        torch.testing.assert_close(found[:, 2:3], estimator(rewards[:, 2:3]))  # nor do groups


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("row", rows(*GROUP_STAGES))
def test_decisions_on_groups_have_their_shape_and_are_finite(row, entropy):
    method = method_of(row)
    for rewards in (None, torch.ones(P, G), -torch.ones(P, G)):
        given = groups_of((), ENTROPIES[entropy], rewards)
        for state in (method.start(), state_after(row)):
            found = decide(method, given, state)
            if row.stage == "filter":
                assert found.checked(given).weights.shape == (P, G)
                found = found.advantages
            assert found.shape in ((P, G), (P, G, T))
            assert bool(found.isfinite().all())
            if found.dim() == 3:
                assert bool((found[~given.record.mask] == 0).all())


@pytest.mark.parametrize("row", rows(*TOKEN_STAGES))
def test_decisions_on_tokens_have_their_shape_are_finite_and_0_outside_the_mask(row):
    method = method_of(row)
    whole = batch_of()
    empty = replace(whole, mask=torch.zeros_like(whole.mask))
    still = replace(whole, advantages=torch.zeros_like(whole.advantages), old_log_prob=whole.log_prob)
    for tokens in (whole, empty, still):
        for state in (method.start(), state_after(row)):
            found = tensors_of(decide(method, tokens, state))
            for name, value in found.items():
                assert value.shape == tokens.mask.shape, name
                assert bool(value[tokens.mask].isfinite().all()), name
            if row.stage == "clip":
                assert not bool((found["low"] | found["high"])[~tokens.mask].any())
            else:
                assert bool((found[""][~tokens.mask] == 0).all())


@pytest.mark.parametrize("row", rows(*GROUP_STAGES, *TOKEN_STAGES))
def test_inputs_and_states_are_left_alone(row):
    method, given = method_of(row), given_of(row)
    state = state_after(row)
    kept, kept_state = copy.deepcopy(given), copy.deepcopy(state)
    decide(method, given, state)
    step(row, state, next(observations()))
    for item in fields(given):
        assert same(getattr(given, item.name), getattr(kept, item.name)), item.name
    assert same(state, kept_state)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if is_dataclass(one) and not isinstance(one, type):
        return all(same(getattr(one, item.name), getattr(other, item.name)) for item in fields(one))
    return one == other


@pytest.mark.parametrize("row", rows(*GROUP_STAGES, *TOKEN_STAGES))
def test_repeats_do_not_mix(row):
    """Three runs side by side decide and remember what each of them does alone."""
    method, given = method_of(row), given_of(row, (3,))
    state = state_after(row, (3,))
    together = tensors_of(decide(method, given, state))
    for repeat in range(3):
        alone = tensors_of(decide(method, repeat_of(given, repeat), repeat_of_state(state, repeat)))
        for name, value in together.items():
            torch.testing.assert_close(value[repeat], alone[name], msg=f"{name}, repeat {repeat}")


def repeat_of(given, repeat):
    def part(value):
        if isinstance(value, torch.Tensor):
            return value[repeat]
        if isinstance(value, Mapping):
            return {key: part(item) for key, item in value.items()}
        if is_dataclass(value):
            return replace(value, **{item.name: part(getattr(value, item.name)) for item in fields(value)})
        return value

    return part(given)


def repeat_of_state(state, repeat):
    return {k: v[repeat] if isinstance(v, torch.Tensor) and v.dim() else v for k, v in state.items()}


@pytest.mark.parametrize("row", rows(*TOKEN_STAGES))
def test_a_split_into_micro_batches_changes_nothing(row):
    method, whole = method_of(row), batch_of()
    state = state_after(row)
    together = tensors_of(decide(method, whole, state))
    for part in torch.randperm(P * G, generator=torch.Generator().manual_seed(5)).split(6):
        tensors = {k: v[part] for k, v in tensors_of(whole).items()}
        micro = TokenBatch(**tensors, whole=whole, rows=part) if "mini_batch" in method_needs(method) else None
        alone = tensors_of(decide(method, micro or TokenBatch(**tensors), state))
        for name, value in alone.items():
            torch.testing.assert_close(value, together[name][part], msg=name)


def method_needs(method):
    return needs_of(method)


@pytest.mark.parametrize("row", rows(*GROUP_STAGES, *TOKEN_STAGES))
def test_a_checkpoint_in_the_middle_changes_nothing(row, tmp_path):
    method, given = method_of(row), given_of(row)
    seen = list(observations())
    state = state_after(row, steps=3)
    torch.save(state, tmp_path / "state.pt")
    resumed = torch.load(tmp_path / "state.pt", weights_only=True)
    for observation in seen[3:]:
        state, info = step(row, state, observation)
        resumed, again = step(row, resumed, observation)
        assert same(dict(info), dict(again))
        assert all(torch.as_tensor(value).numel() == 1 for value in info.values())
    assert same(state, resumed)
    for name, value in tensors_of(decide(method, given, state)).items():
        assert torch.equal(value, tensors_of(decide(method, given, resumed))[name]), name
    assert tuple(state) == tuple(method.start()) == find_state(method)


def find_state(method):
    return () if isinstance(method, Stateless) else tuple(method.start())


@pytest.mark.parametrize("row", rows(*TOKEN_STAGES))
def test_gradients_reach_the_policy_only_where_they_should(row):
    """Weights carry none; objectives and terms do, and finite ones."""
    method, given = method_of(row), batch_of()
    log_prob, entropy = given.log_prob.clone().requires_grad_(), given.entropy.clone().requires_grad_()
    logits = given.logits.clone().requires_grad_()
    found = decide(method, replace(given, log_prob=log_prob, entropy=entropy, logits=logits), state_after(row))
    value = found.objective if row.stage == "clip" else found
    if row.stage == "token_weight":
        assert not value.requires_grad
        return
    assert value.requires_grad or bool((value == 0).all())
    if value.requires_grad:
        leaves = (log_prob, entropy, logits)
        for gradient in torch.autograd.grad(value[given.mask].sum(), leaves, allow_unused=True):
            assert gradient is None or bool(gradient.isfinite().all())


@pytest.mark.parametrize("row", rows(*GROUP_STAGES, *TOKEN_STAGES))
def test_what_a_method_does_not_ask_for_it_does_not_use(row):
    """With only what `needs` and `temperatures` name, it decides the same."""
    method, given = method_of(row), given_of(row)
    needs, state = needs_of(method), state_after(row)
    if row.stage in GROUP_STAGES:
        asked = getattr(build(row.stage, row.name, row.required_options()), "temperatures", ())
        record = replace(
            given.record,
            influence=given.record.influence if "influence" in needs else None,
            responsiveness=given.record.responsiveness if "responsiveness" in needs else None,
            tempered={temperature: given.record.tempered[temperature] for temperature in asked},
        )
        lean = replace(given, record=record)
        lean = replace(lean, **{name: None for name in ("direction", "uniforms") if name not in needs})
    else:
        optional = {"reference_log_prob": "reference", "logits": "logits", "noise": "noise"}
        lean = replace(given, **{name: None for name, need in optional.items() if need not in needs})
        if not needs & {"entropy", "entropy_gradient"}:
            lean = replace(lean, entropy=torch.full_like(given.entropy, torch.nan))
    expected = tensors_of(decide(method, given, state))
    for name, value in tensors_of(decide(method, lean, state)).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("row", rows("denominator"))
def test_denominators_are_positive_and_independent_of_other_repeats(row):
    method = build(row.stage, row.name, row.required_options())
    lengths = lengths_of((2,)).flatten(-2)
    weights = torch.stack([torch.ones(P * G), torch.zeros(P * G)])
    mean = method(lengths, weights)
    assert mean.rows.shape == mean.tokens.shape == weights.shape
    assert bool((mean.tokens > 0).all())
    alone = method(lengths[0], weights[0])
    assert torch.equal(mean.tokens[0], alone.tokens)
    assert torch.equal(mean.rows[0], alone.rows)


@pytest.mark.parametrize("row", rows("schedule"))
def test_schedules_give_a_band_at_every_progress(row):
    schedule = build(row.stage, row.name, row.required_options())
    for progress in (0.0, 0.2, 0.5, 0.999, 1.0):
        band = schedule(progress)
        assert 0 <= band.low <= band.high


def test_mini_batches_hold_whole_groups_once():
    parts = list(mini_batch_rows(P * G, G, 3))
    assert torch.equal(torch.cat(parts), torch.arange(P * G))
    assert all(len(part) % G == 0 for part in parts)


def test_a_filter_that_keeps_all_gives_what_it_got():
    given = groups_of()
    found = method_of(next(row for row in METHODS if row.name == "none")).decide({}, given)
    assert isinstance(found, Filtered)
    assert torch.equal(found.weights, torch.ones(P, G))
    assert found.advantages is given.advantages
