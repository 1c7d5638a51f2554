"""Named streams and the uniforms that sample tokens: functions of their names and indices, and of nothing else."""

import random

import numpy as np
import pytest
import torch

from trainer.streams import TokenUniforms, numpy_stream, python_stream, stream_seed

UNIFORMS = TokenUniforms(seed=stream_seed(7, "rollout", 3))
PROMPT, SAMPLE = [0, 0, 1, 4, 4, 9], [0, 1, 0, 2, 0, 2]
LENGTH = 11


def test_stream_seeds_are_pinned():
    # sha256sum of "0/prompts/3" begins with ed65ccc9443b00c7; a seed is that without its last bit
    assert stream_seed(0, "prompts", 3) == 0xED65CCC9443B00C7 // 2


def test_streams_of_different_names_indices_and_roots_differ():
    names = [(), ("prompts",), ("prompts", 0), ("prompts", 1), ("prompts", 11), ("prompts", 1, 1), ("eval", 0)]
    seeds = {stream_seed(root, *name) for root in (0, 1, 10) for name in names}
    assert len(seeds) == 3 * len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("make", [python_stream, numpy_stream])
def test_streams_repeat_and_do_not_touch_global_generators(make):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    draws = [[make(*names).random() for _ in range(2)] for names in ((5, "a"), (5, "b"), (6, "a"))]
    assert all(first == second for first, second in draws)
    assert len({first for first, _ in draws}) == 3
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_uniforms_are_float64_in_the_unit_interval_and_all_different():
    drawn = UNIFORMS(PROMPT, SAMPLE, LENGTH)
    assert drawn.shape == (6, LENGTH)
    assert drawn.dtype == torch.float64
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert drawn.unique().numel() == drawn.numel()  # no two rows share a stretch of the stream


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [2, 0, 5, 1, 4, 3], [3], [1, 4], [0, 0, 5]])
def test_a_rows_uniforms_do_not_depend_on_the_other_rows(order):
    drawn = UNIFORMS(PROMPT, SAMPLE, LENGTH)
    again = UNIFORMS([PROMPT[row] for row in order], [SAMPLE[row] for row in order], LENGTH)
    assert torch.equal(again, drawn[order])


@pytest.mark.parametrize("length", [1, 2, 5, 10])
def test_a_positions_uniform_does_not_depend_on_the_length(length):
    assert torch.equal(UNIFORMS(PROMPT, SAMPLE, length), UNIFORMS(PROMPT, SAMPLE, LENGTH)[:, :length])


def test_prompt_sample_and_seed_each_matter_and_are_not_exchangeable():
    drawn = UNIFORMS([2, 3, 2, 3], [2, 2, 3, 3], LENGTH)
    other_seed = TokenUniforms(UNIFORMS.seed + 1)([2], [2], LENGTH)
    assert torch.cat([drawn, other_seed]).unique().numel() == 5 * LENGTH


def test_rows_of_neighbours_do_not_overlap():
    # a row may be long; the counters of neighbouring rows must not run into one another
    rows = UNIFORMS([0, 1, 0, 1], [0, 0, 1, 1], 5000)
    assert rows.unique().numel() == rows.numel()


def test_unequal_numbers_of_prompts_and_samples_are_refused():
    with pytest.raises(ValueError, match="zip"):
        UNIFORMS([0, 1], [0], LENGTH)
