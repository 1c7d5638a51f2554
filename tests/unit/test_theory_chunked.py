"""Statistics block by block against the plain float64 ones: values, gradients, types, and what is refused."""

import math

import pytest
import torch

from entropy_theory import TokenStatistics, chunked_token_statistics, fused_token_statistics, token_statistics
from entropy_theory import chunked as module

SCALES = [0.1, 1.0, 5.0, 30.0]
DOUBLE, SINGLE = 1e-11, 2e-6
GRADIENT = 1e-10
SIZES = [(5, 2), (106, 106), (106, 33), (4096, 1000), (32000, 4096), (32000, 50_000)]


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, "TILE", (64, 64))


def rows_of(arms, scale, dtype=torch.float64, masked=True):
    """Rows with all arms, with masked arms, with a masked start, and with one arm left; each with a kept token."""
    generator = torch.Generator().manual_seed(arms)
    logits = (scale * torch.randn(7, arms, generator=generator)).to(dtype)
    token = torch.randint(arms, (7,), generator=generator)
    token[5] = arms - 1
    if masked:
        hidden = torch.zeros(7, arms, dtype=torch.bool)
        hidden[2:4] = torch.rand(2, arms, generator=generator) < 0.5
        hidden[4] = True
        hidden[5, : arms * 3 // 4] = True
        logits = logits.masked_fill(hidden.scatter(1, token[:, None], False), -math.inf)
    token[6] = logits[6].argmax()
    return logits, token


def assert_close(found, expected, tolerance):
    assert isinstance(found, TokenStatistics)
    scales = {"entropy": expected.entropy.clamp(min=1e-2), "log_prob": expected.log_prob.abs().clamp(min=1)}
    for name, value in vars(expected).items():
        error = (getattr(found, name).double() - value).abs() / scales.get(name, torch.tensor(1.0))
        assert error.max().item() <= tolerance, name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("arms", "block"), SIZES)
def test_blocks_give_the_plain_statistics(arms, block, scale, dtype, tolerance, masked):
    logits, token = rows_of(arms, scale, dtype, masked)
    found = chunked_token_statistics(logits, token, block)
    assert {value.dtype for value in vars(found).values()} == {dtype}
    assert_close(found, token_statistics(logits.double(), token), tolerance)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("arms", "block"), SIZES[:4])
def test_fused_gives_the_plain_statistics(arms, block, scale):
    generator = torch.Generator().manual_seed(arms)
    hidden, weight = torch.randn(7, 16, generator=generator), torch.randn(arms, 16, generator=generator) * scale / 4
    token = torch.randint(arms, (7,), generator=generator)
    plain = token_statistics(hidden @ weight.T, token)
    assert_close(fused_token_statistics(hidden, weight, token, block), plain, DOUBLE)
    hidden, weight = hidden.float(), weight.float()
    plain = token_statistics((hidden @ weight.T).double(), token)
    rounding = 16 * 6e-8 * (hidden.abs() @ weight.abs().T).max().item()  # of the logits: matrix products differ in it
    assert_close(fused_token_statistics(hidden, weight, token, block), plain, max(SINGLE, 10 * rounding))


@pytest.mark.parametrize("block", [1, 7, 64])
def test_row_tiles_change_nothing(small_tiles, block):
    logits, token = rows_of(106, 3.0)
    logits, token = logits.repeat(3, 1), token.repeat(3)
    assert_close(chunked_token_statistics(logits, token, block), token_statistics(logits, token), DOUBLE)
    hidden, weight = torch.eye(106)[:21], logits.nan_to_num(neginf=0.0).new_ones(106, 106).cumsum(0) / 40
    plain = token_statistics(hidden @ weight.T, token)
    assert_close(fused_token_statistics(hidden, weight, token, block), plain, DOUBLE)


def test_a_growing_maximum_and_a_masked_start_by_hand():
    # p = (1/6, 2/6, 3/6) after a block of masked arms; each block raises the maximum.
    logits = torch.tensor([[-math.inf, -math.inf, 0.0, math.log(2), math.log(3)]]) + 900.0
    found = chunked_token_statistics(logits, torch.tensor([4]), block=1)
    h = math.log(6) - (2 * math.log(2) + 3 * math.log(3)) / 6
    assert found.log_prob.item() == pytest.approx(-math.log(2), abs=GRADIENT)
    assert found.entropy.item() == pytest.approx(h, abs=GRADIENT)
    assert found.collision.item() == pytest.approx(14 / 36, abs=GRADIENT)
    assert found.discriminator.item() == pytest.approx((h - math.log(2)) / 2, abs=GRADIENT)
    by_hand = sum(q * q * (math.log(q) + h) for q in (1 / 6, 1 / 3, 1 / 2))
    assert found.mean_discriminator.item() == pytest.approx(by_hand, abs=GRADIENT)


def test_batch_shapes_one_arm_and_no_rows():
    logits = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0))
    token = torch.randint(11, (2, 3), generator=torch.Generator().manual_seed(1))
    assert_close(chunked_token_statistics(logits, token, 4), token_statistics(logits, token), DOUBLE)
    one = chunked_token_statistics(torch.tensor([3.0]), torch.tensor(0))
    assert [value.item() for value in vars(one).values()] == [0.0, 0.0, 1.0, 0.0, 0.0]
    nothing = torch.zeros(0, dtype=torch.long)
    assert chunked_token_statistics(torch.zeros(0, 5), nothing).entropy.shape == (0,)
    assert fused_token_statistics(torch.zeros(0, 3), torch.zeros(5, 3), nothing).entropy.shape == (0,)


def mixed(found):
    """A loss with another weight on each row of both differentiable fields."""
    weights = torch.linspace(-1.0, 2.0, found.log_prob.numel())
    return (weights * found.log_prob + weights.flip(0).square() * found.entropy).sum()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("arms", "block"), SIZES[:4])
def test_gradients_are_those_of_autograd(arms, block, scale):
    logits, token = rows_of(arms, scale)
    slopes = []
    for function in (lambda z: chunked_token_statistics(z, token, block), lambda z: token_statistics(z, token)):
        leaf = logits.clone().requires_grad_()
        slopes.append(torch.autograd.grad(mixed(function(leaf)), leaf)[0])
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=GRADIENT)


@pytest.mark.parametrize("field", ["log_prob", "entropy"])
def test_one_field_alone_has_its_gradient(field):
    logits, token = rows_of(106, 2.0)
    slopes = []
    for function in (lambda z: chunked_token_statistics(z, token, 33), lambda z: token_statistics(z, token)):
        leaf = logits.clone().requires_grad_()
        slopes.append(torch.autograd.grad(getattr(function(leaf), field).sum(), leaf)[0])
    torch.testing.assert_close(slopes[0], slopes[1], rtol=0, atol=GRADIENT)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_fused_gradients_are_those_of_autograd(wanted):
    generator = torch.Generator().manual_seed(4)
    hidden, weight = torch.randn(7, 16, generator=generator), torch.randn(106, 16, generator=generator)
    token = torch.randint(106, (7,), generator=generator)
    slopes = []
    for function in (
        lambda h, w: fused_token_statistics(h, w, token, 33),
        lambda h, w: token_statistics(h @ w.T, token),
    ):
        leaves = [leaf.clone().requires_grad_(need) for leaf, need in zip((hidden, weight), wanted, strict=True)]
        mixed(function(*leaves)).backward()
        slopes.append([leaf.grad for leaf in leaves])
    for found, expected, need in zip(*slopes, wanted, strict=True):
        assert (found is None) is (not need)
        if need:
            torch.testing.assert_close(found, expected, rtol=0, atol=GRADIENT)


@pytest.mark.parametrize("scale", SCALES)
def test_bf16_logits_need_no_copy(scale):
    logits, token = rows_of(4096, scale, torch.bfloat16)
    found = chunked_token_statistics(logits, token, 1000)
    assert found.entropy.dtype == torch.float32
    assert_close(found, token_statistics(logits.float().double(), token), SINGLE)
    leaf, wide = logits.clone().requires_grad_(), logits.double().requires_grad_()
    (slope,) = torch.autograd.grad(mixed(chunked_token_statistics(leaf, token, 1000)), leaf)
    (expected,) = torch.autograd.grad(mixed(token_statistics(wide, token)), wide)
    assert slope.dtype == torch.bfloat16
    torch.testing.assert_close(slope.double(), expected, rtol=2**-8, atol=1e-5)


def test_bf16_fused_agrees_with_the_product_it_makes():
    generator = torch.Generator().manual_seed(6)
    hidden = torch.randn(9, 64, generator=generator).bfloat16().requires_grad_()
    weight = (torch.randn(500, 64, generator=generator) / 8).bfloat16().requires_grad_()
    token = torch.randint(500, (9,), generator=generator)
    found = fused_token_statistics(hidden, weight, token, 96)
    assert_close(found, token_statistics((hidden @ weight.T).double(), token), 2**-7)  # a logit is rounded to 8 bits
    slopes = torch.autograd.grad(mixed(found), (hidden, weight))
    wide = [leaf.detach().double().requires_grad_() for leaf in (hidden, weight)]
    expected = torch.autograd.grad(mixed(token_statistics(wide[0] @ wide[1].T, token)), wide)
    for slope, truth in zip(slopes, expected, strict=True):
        assert slope.dtype == torch.bfloat16
        assert (slope.double() - truth).norm().item() < 2**-6 * truth.norm().item()


@pytest.mark.parametrize("function", ["chunked", "fused"])
def test_a_second_backward_is_refused(function):
    leaf = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    token = torch.tensor([0, 1, 2])
    if function == "chunked":
        found = chunked_token_statistics(leaf, token, 3)
    else:
        found = fused_token_statistics(leaf, torch.eye(8), token, 3)
    (slope,) = torch.autograd.grad(found.entropy.sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        (slope.square().sum() + leaf.sum()).backward()
    assert not any(value.requires_grad for value in (found.collision, found.discriminator, found.mean_discriminator))


@pytest.mark.parametrize(
    ("arms", "block", "named"), [(5, 0, "block=0"), (5, -3, "block=-3"), (0, 4, "at least one|K >= 1")]
)
def test_a_block_below_one_and_an_empty_vocabulary_are_refused(arms, block, named):
    token = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=named):
        chunked_token_statistics(torch.zeros(2, arms), token, block)
    with pytest.raises(ValueError, match=named):
        fused_token_statistics(torch.zeros(2, 3), torch.zeros(arms, 3), token, block)


def test_a_token_outside_the_vocabulary_is_refused():
    for outside in (-1, 5):
        token = torch.tensor([outside])
        with pytest.raises(ValueError, match=r"0\.\.4"):
            chunked_token_statistics(torch.zeros(1, 5), token)
        with pytest.raises(ValueError, match=r"0\.\.4"):
            fused_token_statistics(torch.zeros(1, 3), torch.zeros(5, 3), token)
