"""Draws follow the policy: chi-square of token counts against the softmax, uniforms against the uniform distribution.

Each comparison raises a false alarm with odds 1e-6; seeds are fixed, so a run that passes passes always. Every check
must also flag a planted error.
"""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from trainer.sampling import draw, truncate
from trainer.streams import TokenUniforms, stream_seed

DRAWS = 100_000
FALSE_ALARM = 1e-6
POLICIES = {
    "skewed": [2.0, 1.0, 0.0, -1.0, -2.0, -3.0],
    "rare first": [-6.0, 0.0, 0.5, 1.0],
    "uniform": [0.0] * 7,
    "two": [1.5, 0.0],
}


def counts_of(probs, uniforms):
    tokens = draw(probs.expand(len(uniforms), -1), uniforms)
    return np.bincount(tokens.numpy(), minlength=probs.shape[-1])


def misfit(counts, probs):
    """The p-value of these counts under these probabilities; nothing may be drawn where there is no mass."""
    expected = (probs.double() / probs.double().sum()).numpy() * counts.sum()
    assert not counts[expected == 0].any()
    return chisquare(counts[expected > 0], expected[expected > 0]).pvalue


@pytest.fixture(scope="module")
def uniforms():
    """Many prompts, samples and positions of one step, in one long row."""
    prompts, samples, length = DRAWS // 80, 8, 10
    generator = TokenUniforms(stream_seed(0, "rollout", 5))
    rows = [prompt for prompt in range(prompts) for _ in range(samples)]
    return generator(rows, list(range(samples)) * prompts, length)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", POLICIES)
def test_draws_follow_the_softmax(uniforms, name, dtype):
    probs = torch.tensor(POLICIES[name], dtype=dtype).softmax(-1)
    counts = counts_of(probs, uniforms.flatten())
    assert misfit(counts, probs) > FALSE_ALARM
    # planted: the first token 2 % likelier, taken from the second
    tilted = probs.double().clone()
    tilted[:2] += torch.tensor([0.02, -0.02])
    assert misfit(counts_of(tilted, uniforms.flatten()), probs) < FALSE_ALARM


@pytest.mark.parametrize(("top_p", "top_k"), [(0.9, 0), (1.0, 3), (0.8, 4)])
def test_truncated_draws_follow_what_is_left(uniforms, top_p, top_k):
    probs = torch.tensor(POLICIES["skewed"]).softmax(-1)[None]
    left = truncate(probs, top_p=top_p, top_k=top_k)[0]
    counts = counts_of(left, uniforms.flatten())
    assert (counts > 0).sum() == (left > 0).sum() < 6
    assert misfit(counts, left) > FALSE_ALARM


def test_uniforms_are_uniform_and_every_axis_is_unrelated_to_the_others(uniforms):
    assert kstest(uniforms.flatten().numpy(), "uniform").pvalue > FALSE_ALARM
    assert kstest((uniforms.flatten() * 0.98).numpy(), "uniform").pvalue < FALSE_ALARM  # planted
    block = uniforms.view(-1, 8, 10)  # [prompt, sample, position]
    for axis in range(3):
        one, other = block.narrow(axis, 0, block.shape[axis] - 1), block.narrow(axis, 1, block.shape[axis] - 1)
        assert abs(correlation_z(one, other)) < 5
        assert abs(correlation_z(one, one * 0.1 + other)) > 5  # planted


def correlation_z(one, other):
    """The correlation of two samples in its standard errors."""
    pair = torch.stack([one.flatten(), other.flatten()])
    return torch.corrcoef(pair)[0, 1].item() * pair.shape[1] ** 0.5
