"""The condition on a real update: against logits of before and after, and its columns by hand."""

import math

import pytest
import torch

from entropy_theory import MeasuredTheorem1, measured_theorem1
from trainer.condition import LARGEST, ConditionProbe, check_size, condition_columns
from trainer.model import completion_logits
from trainer.network import Network
from trainer.parsing import load_config
from trainer.probe import Probe
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms

TEMPERATURE = 0.8


@pytest.fixture
def rollouts(tiny):
    return sample(tiny, [[5, 3, 7], [2], [8, 6, 6, 4]], 4, 7, Sampling(TEMPERATURE), generator=TokenUniforms(1))


def logits_of(model, rollouts):
    width = rollouts.mask.shape[1]
    return completion_logits(model, rollouts.tokens, rollouts.attention, width, TEMPERATURE).detach()


def move(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("rows", [64, 5])
def test_what_is_measured_is_of_the_logits_before_and_after(tiny, rollouts, rows):
    before = logits_of(tiny.model, rollouts)
    condition = ConditionProbe(Probe(Network(tiny.model), rollouts, TEMPERATURE, rows))
    state, weights = torch.get_rng_state(), [value.clone() for value in tiny.model.state_dict().values()]
    move(tiny.model)
    found = condition.after()
    expected = measured_theorem1(before, logits_of(tiny.model, rollouts), rollouts.completion_ids)
    for name, value in vars(expected).items():
        torch.testing.assert_close(
            getattr(found, name)[rollouts.mask], value[rollouts.mask], rtol=1e-7, atol=1e-11, equal_nan=True
        )
        assert not getattr(found, name)[~rollouts.mask].any()
    assert {True, False} == set(found.condition[rollouts.mask].tolist())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in tiny.model.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(tiny.model.state_dict().values(), weights, strict=True))


def tokens(**rows):
    """Theorem 1's objects of tokens whose gap is given: baseline, change and sign follow from it."""
    log_prob, delta_p, gap, second = (torch.tensor(rows[name]) for name in ("log_prob", "delta_p", "gap", "second"))
    moved = delta_p != 0
    first = -delta_p * gap
    return MeasuredTheorem1(
        log_prob=log_prob,
        delta_p=delta_p,
        first_order=first,
        change=first + second,
        moved=moved,
        condition=moved & (gap > 0),
        baseline=(log_prob - gap).where(moved, math.nan),
    )


def test_columns_by_hand():
    found = tokens(
        log_prob=[[-1.0, -2.0, -3.0], [-0.5, -1.0, -7.0], [-9.0, -9.0, -9.0]],
        delta_p=[[0.1, 0.4, 0.0], [0.3, -0.1, 0.2], [0.1, 0.1, 0.1]],
        gap=[[2.0, -1.0, 1.0], [2.0, 4.0, 5.0], [1.0, 1.0, 1.0]],
        # First order: -0.2, 0.4, 0; -0.6, 0.4. The second order turns the second of them into -0.05.
        second=[[0.0, -0.45, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    )
    advantages = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    columns = condition_columns(found, advantages, mask)
    assert columns == pytest.approx(
        {
            "condition_tokens": 3 / 4,
            "condition_undefined": 1 / 5,
            "condition_log_likelihood": -4.5 / 4,
            "condition_baseline": (-3 - 1 - 2.5 - 5) / 4,
            "condition_gap_median": 2.0,
            # A delta p: 0.1, 0.4; -0.3, 0.1. A dH: -0.2, -0.05; 0.6, -0.4. The condition fails for the second.
            "delta_p_agreement": 3 / 4,
            "sign_rule_given_condition": 2 / 3,
            "sign_rule_without_condition": 1.0,
            # Gaps 2 - 1 and 2 + 4; effective -0.2 / 1 with A = 1, and 0.2 / 6 with A = -1.
            "condition_sequences": 1.0,
            "effective_delta_p_negative": 1.0,
            # A dH: -0.2 - 0.05; 0.6 - 0.4.
            "sign_rule_sequences_given_condition": 0.5,
            "sign_rule_sequences_without_condition": None,
        }
    )


def test_columns_are_empty_without_an_advantage():
    found = tokens(log_prob=[[-1.0]], delta_p=[[0.1]], gap=[[1.0]], second=[[0.0]])
    assert set(condition_columns(found, torch.zeros(1, 1), torch.ones(1, 1).bool()).values()) == {None}


def test_more_logits_than_can_be_kept_are_refused():
    config = load_config("--theory.condition=true", "--theory.probe_rows=100", "--rollout.prompts=12")  # 96 rows
    check_size(config, 8, LARGEST // (8 * 96))
    words = r"theory\.probe_rows=96 x 8 tokens x 349526 logits.*Lower theory\.probe_rows to 95, or"
    with pytest.raises(ValueError, match=words):
        check_size(config, 8, LARGEST // (8 * 96) + 1)
    with pytest.raises(ValueError, match=r"Lower rollout\.max_new_tokens"):
        check_size(config, 8, LARGEST)
    check_size(load_config("--theory.probe_rows=100"), 8, LARGEST)
    check_size(load_config("--theory.condition=true", "--theory.enabled=false"), 8, LARGEST)
