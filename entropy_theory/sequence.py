"""Entropy of whole responses: by the chain rule, and by enumerating every sequence of a small vocabulary."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entropy_theory import validation
from entropy_theory.softmax import Softmax, policy_of

NextLogits = Callable[[tuple[int, ...]], Float[Tensor, " K"]]
LARGEST = 100_000


def all_sequences(vocabulary: int, length: int) -> Int[Tensor, "N T"]:
    """Return every sequence of `length` tokens, `[vocabulary^length, length]`, in lexicographic order.

    Raises:
        ValueError: sizes below 1, or more than 100 000 sequences.

    >>> all_sequences(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    if vocabulary < 1 or length < 1 or vocabulary**length > LARGEST:
        raise ValueError(
            f"all_sequences(vocabulary={vocabulary}, length={length}) must have both >= 1 "
            f"and at most {LARGEST} sequences."
        )
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


def enumerated_log_probs(next_logits: NextLogits, vocabulary: int, length: int) -> Float[Tensor, " N"]:
    """Return the log-probability of every sequence of an autoregressive policy, `[vocabulary^length]`, nats.

    Args:
        next_logits: prefix (a tuple of tokens) -> logits of the next token, `[vocabulary]`.
        vocabulary: tokens to choose from.
        length: tokens of a response.

    Raises:
        ValueError: sizes below 1, more than 100 000 sequences, or next logits of another shape than `[vocabulary]`.
    """
    rows = []
    for sequence in all_sequences(vocabulary, length).tolist():
        steps = [policy_after(next_logits, sequence[:t], vocabulary).log_probs[sequence[t]] for t in range(length)]
        rows.append(torch.stack(steps).sum())
    return torch.stack(rows)


def policy_after(next_logits: NextLogits, prefix: Sequence[int], vocabulary: int) -> Softmax:
    """Return the next token's policy after a prefix, refusing logits of another shape than `[vocabulary]`."""
    logits = next_logits(tuple(prefix))
    if logits.shape != (vocabulary,):
        raise ValueError(
            f"next_logits(prefix={tuple(prefix)}) must return [{vocabulary}] logits; got shape {list(logits.shape)}. "
            "Give one logit a token of the vocabulary."
        )
    return policy_of(logits, "next_logits", f"prefix={tuple(prefix)}")


def enumerated_entropy(next_logits: NextLogits, vocabulary: int, length: int) -> Float[Tensor, ""]:
    """Return the exact entropy of an autoregressive policy's responses, -sum P(y) log P(y), in nats.

    Args:
        next_logits: prefix -> logits of the next token; each call with one prefix returns the same.
        vocabulary: tokens to choose from.
        length: tokens of a response; shorter responses are written with a token that repeats once it was drawn.

    Raises:
        ValueError: sizes below 1, more than 100 000 sequences, or next logits of another shape than `[vocabulary]`.

    Source: the definition.

    >>> round(enumerated_entropy(lambda prefix: torch.zeros(3), 3, 2).item(), 4)  # 2 log 3
    2.1972
    """
    log_probs = enumerated_log_probs(next_logits, vocabulary, length)
    return -(log_probs.exp() * log_probs.masked_fill(log_probs.isneginf(), 0.0)).sum()


def chain_rule_entropy(next_logits: NextLogits, vocabulary: int, length: int) -> Float[Tensor, ""]:
    """Return the same entropy as a sum over positions of the expected entropy of the next token, in nats.

    H(Y) = sum_t E_{y_<t}[H(p(. | y_<t))], the expectation over prefixes taken exactly.

    Args:
        next_logits: prefix -> logits of the next token.
        vocabulary: tokens to choose from.
        length: tokens of a response.

    Raises:
        ValueError: sizes below 1, more than 100 000 prefixes, or next logits of another shape than `[vocabulary]`.

    Source: the chain rule of entropy; equals `enumerated_entropy`.

    >>> round(chain_rule_entropy(lambda prefix: torch.zeros(3), 3, 2).item(), 4)
    2.1972
    """
    all_sequences(vocabulary, length)  # refuses wrong sizes
    total = policy_after(next_logits, (), vocabulary).entropy
    for t in range(1, length):
        prefixes = all_sequences(vocabulary, t).tolist()
        after = [policy_after(next_logits, prefix, vocabulary).entropy for prefix in prefixes]
        weights = enumerated_log_probs(next_logits, vocabulary, t).exp()
        total = total + (weights * torch.stack(after)).sum()
    return total


def response_entropy(
    logits: Float[Tensor, "*batch T K"], mask: Bool[Tensor, "*batch T"] | None = None
) -> Float[Tensor, "*batch"]:
    """Return the entropy of sampled responses per token: the mean over tokens of H at their contexts, in nats/token.

    The sum over tokens is an unbiased estimate of the sequence entropy H(Y) when the policy drew the response. A
    response without a token that counts has NaN.

    Args:
        logits: `[*batch, T, K]`, at the contexts of the response's tokens.
        mask: `[*batch, T]`, True on tokens that count; all by default. Logits of the others are not looked at.

    Raises:
        TypeError: logits that are not floating-point, or a mask that is not boolean.
        ValueError: a token that counts without a distribution, or a mask of another shape.

    Source: arXiv 2604.26326, Section 1; the chain rule for the estimate.

    >>> round(response_entropy(torch.zeros(5, 2)).item(), 4)
    0.6931
    """
    if mask is None:
        return policy_of(logits, "response_entropy").entropy.mean(-1)
    if mask.dtype != torch.bool:
        raise TypeError(f"response_entropy(mask) must be boolean; got {mask.dtype}. Convert with .bool().")
    validation.vocabulary("response_entropy", logits)
    validation.like("response_entropy", "mask", mask, logits[..., 0], "the logits without their last axis")
    values = policy_of(logits.masked_fill(~mask[..., None], 0.0), "response_entropy").entropy
    return values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1)
