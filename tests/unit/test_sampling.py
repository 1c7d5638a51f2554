"""Drawing and truncation by hand, against a plain reference and against transformers' own."""

import math
import random

import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from trainer.sampling import Sampling, draw, truncate

ALMOST_1 = 1 - 2**-53


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_sampling_refuses_what_cannot_be_sampled(options):
    with pytest.raises(ValueError, match=r"temperature > 0, 0 < top_p <= 1 and top_k >= 0"):
        Sampling(**options)


@pytest.mark.parametrize(
    ("uniform", "token"),
    [(0.0, 1), (0.1249, 1), (0.125, 2), (0.6249, 2), (0.625, 4), (0.99, 4), (ALMOST_1, 4)],
)
@pytest.mark.parametrize("total", [1.0, 0.125, 8.0])
def test_draw_by_hand(uniform, token, total):
    # mass 1/8 on token 1, 1/2 on token 2, 3/8 on token 4; a bound belongs to the token above it
    probs = total * torch.tensor([[0.0, 0.125, 0.5, 0.0, 0.375, 0.0]])
    assert draw(probs, torch.tensor([uniform])).tolist() == [token]


def test_draw_takes_each_row_with_its_own_uniform():
    probs = torch.tensor([[0.25, 0.75], [0.25, 0.75], [0.75, 0.25], [1.0, 0.0], [0.0, 1.0]])
    assert draw(probs, torch.tensor([0.2, 0.3, 0.7, 0.9, 0.1])).tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draw_never_takes_a_token_without_mass(dtype):
    generator = torch.Generator().manual_seed(1)
    probs = torch.randn(2000, 50, generator=generator).mul(4).softmax(-1).to(dtype)
    probs[torch.rand(probs.shape, generator=generator) < 0.5] = 0
    probs[:, 17] += 1e-3
    for uniform in (0.0, 1e-300, 0.5, 1 - 1e-9, ALMOST_1):
        tokens = draw(probs, torch.full((2000,), uniform))
        assert (probs.gather(-1, tokens[:, None]) > 0).all()
    last = (probs > 0).long().mul(torch.arange(50)).argmax(-1)
    assert torch.equal(draw(probs, torch.full((2000,), ALMOST_1)), last)


def test_draw_reaches_a_rare_last_token_and_masses_beyond_float32():
    probs = torch.tensor([[1.0, 1e-12]], dtype=torch.float64)
    assert draw(probs, torch.tensor([ALMOST_1])).tolist() == [1]
    assert draw(probs, torch.tensor([1 - 2e-12])).tolist() == [0]
    # float32 probabilities are cumulated in float64: 1 + 2^-26 would be 1 in float32, and token 1 out of reach
    probs = torch.tensor([[1.0, 2**-26, 2**-26]], dtype=torch.float32)
    assert draw(probs, torch.tensor([1 - 3 * 2**-27])).tolist() == [1]
    assert draw(probs, torch.tensor([1 - 2**-27])).tolist() == [2]


HALVES = [0.5, 0.25, 0.125, 0.125]  # exact in binary, so that bounds are met exactly


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, 4),
        (1, 1.0, 1),
        (2, 1.0, 2),
        (3, 1.0, 4),  # the fourth is tied with the third
        (4, 1.0, 4),
        (9, 1.0, 4),
        (0, 0.001, 1),  # one token at least
        (0, 0.5, 1),  # the likeliest holds the half itself
        (0, 0.5001, 2),  # the token that crosses is kept
        (0, 0.75, 2),
        (0, 0.7501, 3),  # of tied tokens the first
        (0, 0.9, 4),
        (2, 0.6, 1),  # top-k first: 1/2 of what is left, 3/4, is 2/3
        (2, 0.7, 2),
        (3, 0.6, 2),
    ],
)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 1, 0]])
def test_truncate_by_hand(top_k, top_p, kept, order):
    left = truncate(torch.tensor([HALVES])[:, order], top_p=top_p, top_k=top_k)
    # the kept ones are the likeliest; between equals, the one that stands first
    ranked = sorted(range(4), key=lambda place: (-HALVES[order[place]], place))[:kept]
    expected = [HALVES[token] if place in ranked else 0.0 for place, token in enumerate(order)]
    assert left.tolist() == [expected]


def truncated_by_loop(row, top_p, top_k):
    """The rule once more, token by token."""
    ranked = sorted(range(len(row)), key=lambda token: (-row[token], token))
    if top_k:
        least = row[ranked[min(top_k, len(row)) - 1]]
        ranked = [token for token in ranked if row[token] >= least]
    total, held, kept = math.fsum(row[token] for token in ranked), 0.0, set()
    for token in ranked:
        if top_p < 1 and held >= top_p * total:
            break
        kept.add(token)
        held += row[token]
    return [value if token in kept else 0.0 for token, value in enumerate(row)]


@pytest.mark.parametrize("top_k", [0, 1, 3, 10, 40])
@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.8, 0.95, 1.0])
def test_truncate_agrees_with_a_loop_ties_included(top_p, top_k):
    chance = random.Random(2)
    # whole numbers over a power of two: sums are exact, and many values are equal
    rows = [[chance.choice([0, 1, 1, 2, 3, 8, 20]) / 64 for _ in range(20)] for _ in range(40)]
    rows = [row for row in rows if any(row)]
    left = truncate(torch.tensor(rows), top_p=top_p, top_k=top_k)
    assert left.tolist() == [truncated_by_loop(row, top_p, top_k) for row in rows]


@pytest.mark.parametrize("top_k", [0, 1, 5, 20, 200])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.95, 1.0])
def test_truncate_agrees_with_transformers(top_p, top_k):
    logits = 3 * torch.randn(200, 100, generator=torch.Generator().manual_seed(3))
    warped = logits
    if top_k:
        warped = TopKLogitsWarper(top_k)(None, warped)
    if top_p < 1:
        warped = TopPLogitsWarper(top_p)(None, warped)
    ours = truncate(logits.softmax(-1), top_p=top_p, top_k=top_k)
    assert torch.equal(ours > 0, warped.isfinite())
    torch.testing.assert_close(ours / ours.sum(-1, keepdim=True), warped.softmax(-1), rtol=0, atol=1e-10)


def test_truncate_and_draw_leave_their_inputs_alone():
    probs, uniforms = torch.tensor([HALVES]), torch.tensor([0.3])
    draw(truncate(probs, top_p=0.6, top_k=2), uniforms)
    assert probs.tolist() == [HALVES]
    assert uniforms.tolist() == [0.3]
