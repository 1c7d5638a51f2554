"""Policies that several unit tests share: a tiny random one to change at will, and the shipped one to read only."""

import pytest
import torch

from trainer.model import Policy, load_policy
from trainer.new_model import new_qwen3, word_tokenizer


def new_tiny_policy() -> Policy:
    """A 2-layer Qwen3 of width 32 over 12 words, in float64, with weights large enough to tell words apart."""
    tokenizer = word_tokenizer([f"w{index}" for index in range(10)], context_length=32)
    policy = new_qwen3(tokenizer, hidden=32, layers=2, heads=2, feed_forward=48, context_length=32, seed=3)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10)  # initialised to 0.02, which leaves every context nearly uniform
    in_float64(policy.model)
    return policy


def in_float64(module: torch.nn.Module) -> None:
    """Replace transformers' norms, which round to float32 whatever the model's type, by torch's own."""
    for name, child in module.named_children():
        if type(child).__name__ == "Qwen3RMSNorm":
            norm = torch.nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon)
            norm.weight = child.weight
            setattr(module, name, norm)
        else:
            in_float64(child)


@pytest.fixture
def tiny():
    """A tiny policy of the test's own, in float64."""
    return new_tiny_policy()


@pytest.fixture(scope="session")
def shipped():
    """The shipped model in float32, as runs load it: to be read, never changed."""
    return load_policy("countdown-0.2m", device="cpu")


@pytest.fixture(scope="session")
def shipped64():
    """The shipped model in float64: to be read, never changed."""
    return load_policy("countdown-0.2m", dtype="float64", device="cpu")
