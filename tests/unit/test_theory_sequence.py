"""Entropy of responses: chain rule, enumeration and sampling agree on small autoregressive policies."""

import math

import pytest
import torch

from entropy_theory import chain_rule_entropy, entropy, enumerated_entropy, response_entropy
from entropy_theory.sequence import all_sequences

CLOSED_FORM = 1e-10


def random_tables(vocabulary, length, seed):
    """Logits for every prefix: one table a position, with the prefix read as a number in base `vocabulary`."""
    generator = torch.Generator().manual_seed(seed)
    return [1.5 * torch.randn(vocabulary**t, vocabulary, generator=generator) for t in range(length)]


def reader(tables):
    vocabulary = tables[0].shape[-1]

    def next_logits(prefix):
        row = 0
        for token in prefix:
            row = row * vocabulary + token
        return tables[len(prefix)][row]

    return next_logits


@pytest.mark.parametrize(("vocabulary", "length"), [(1, 3), (2, 1), (2, 5), (3, 4), (6, 3)])
def test_chain_rule_is_enumeration(vocabulary, length):
    policy = reader(random_tables(vocabulary, length, 10 * vocabulary + length))
    found = chain_rule_entropy(policy, vocabulary, length)
    torch.testing.assert_close(found, enumerated_entropy(policy, vocabulary, length), rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize("function", [chain_rule_entropy, enumerated_entropy])
@pytest.mark.parametrize(("vocabulary", "length"), [(2, 6), (5, 3)])
def test_uniform_tokens_have_the_log_of_the_vocabulary_each(function, vocabulary, length):
    found = function(lambda prefix: torch.zeros(vocabulary), vocabulary, length)
    assert found.item() == pytest.approx(length * math.log(vocabulary), abs=CLOSED_FORM)


@pytest.mark.parametrize("function", [chain_rule_entropy, enumerated_entropy])
def test_dependent_tokens_by_hand(function):
    # The first token is fair; after 0 the next is fair, after 1 it is sure (masked): H = ln2 + ln2 / 2.
    rows = {(): [0.0, 0.0], (0,): [1.0, 1.0], (1,): [-math.inf, 0.0]}
    found = function(lambda prefix: torch.tensor(rows[prefix]), 2, 2)
    assert found.item() == pytest.approx(1.5 * math.log(2), abs=CLOSED_FORM)


@pytest.mark.parametrize(("vocabulary", "length", "seed"), [(3, 4, 0), (5, 3, 1)])
def test_sampled_response_entropy_estimates_the_enumerated_one(vocabulary, length, seed):
    tables = random_tables(vocabulary, length, seed)
    generator = torch.Generator().manual_seed(seed)
    row, contexts = torch.zeros(20_000, dtype=torch.long), []
    for table in tables:
        contexts.append(table[row])
        drawn = torch.multinomial(table[row].softmax(-1), 1, generator=generator)[:, 0]
        row = row * vocabulary + drawn
    found = response_entropy(torch.stack(contexts, 1))
    exact = enumerated_entropy(reader(tables), vocabulary, length) / length
    error = found.std() / math.sqrt(len(found))
    assert (found.mean() - exact).abs().item() < 5 * error.item()
    assert error.item() < 0.01 * exact.item()


def test_response_entropy_is_a_mean_over_the_tokens_that_count():
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, False], [True, True, True, True], [False, False, True, False]])
    found, each = response_entropy(logits, mask), entropy(logits)
    expected = torch.stack([each[0, :2].mean(), each[1].mean(), each[2, 2]])
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSED_FORM)
    torch.testing.assert_close(response_entropy(logits), each.mean(-1), rtol=0, atol=CLOSED_FORM)


@pytest.mark.parametrize(("vocabulary", "length"), [(0, 2), (2, 0), (10, 6)])
def test_sizes_that_cannot_be_enumerated_are_refused(vocabulary, length):
    with pytest.raises(ValueError, match=f"vocabulary={vocabulary}, length={length}"):
        all_sequences(vocabulary, length)
