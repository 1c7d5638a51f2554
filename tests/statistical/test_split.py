"""The split by CRC32 is random: held-out prompts are like training prompts, and no congruence class of their numbers.

Under a random split every distinct key (sorted numbers, target) falls into a split by itself, whatever its properties;
so a chi-square test of homogeneity over distinct keys is valid. Each comparison raises a false alarm with odds
1e-6 / (number of comparisons), so all of them together once in a million; the plays are seeded, so a run that passes
passes always. Two planted splits, polynomial hashes with base 31 (which is 1 modulo 10), must be flagged.
"""

import math
import random

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from trainer.tasks.countdown import Countdown, split_of

PLAYS = 20_000
MODULI = range(2, 13)
FALSE_ALARM = 1e-6
SMALLEST_EXPECTED = 5  # where the chi-square approximation is good enough


@pytest.fixture(scope="module")
def keys():
    """The distinct keys of many plays, and the number of steps of the first play of each."""
    generator, task = random.Random(20), Countdown()
    found = {}
    for _ in range(PLAYS):
        numbers, steps = task.play(generator=generator)
        found.setdefault((tuple(sorted(numbers)), steps[-1].result), len(steps))
    return found


def features(keys):
    """Everything the splits are compared by: name -> a small whole number for each key."""
    targets = np.array([target for _, target in keys])
    sums = np.array([sum(numbers) for numbers, _ in keys])
    table = {"steps": np.array(list(keys.values())), "target decile": (targets - 5) * 10 // 95}
    for modulus in MODULI:
        table[f"target mod {modulus}"] = targets % modulus
        table[f"sum mod {modulus}"] = sums % modulus
        table[f"sum + target mod {modulus}"] = (sums + targets) % modulus
    return table


def p_value(feature, held_out):
    """The chance of a difference this large between two samples of one distribution; rare values are pooled."""
    counts = np.array([np.bincount(feature[side], minlength=feature.max() + 1) for side in (held_out, ~held_out)])
    smaller_share = min(held_out.mean(), 1 - held_out.mean())
    rare = counts.sum(0) * smaller_share < SMALLEST_EXPECTED
    counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(1)])
    return chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue


def flagged(keys, held_out):
    """The features by which a split's held-out prompts differ from the others."""
    table = features(keys)
    return [name for name, feature in table.items() if p_value(feature, held_out) < FALSE_ALARM / len(table)]


def polynomial_hash(parts):
    value = 0
    for part in parts:
        value = 31 * value + part
    return value


def by_numbers(numbers, target):
    return polynomial_hash([*numbers, target]) % 10 == 0


def by_characters(numbers, target):
    return polynomial_hash(map(ord, " ".join(map(str, [*numbers, target])))) % 10 == 0


@pytest.mark.parametrize("name", ["test", "validation"])
def test_held_out_prompts_are_like_the_others(keys, name):
    held_out = np.array([split_of(*key) == name for key in keys])
    assert flagged(keys, held_out) == []


def test_test_and_validation_prompts_are_alike(keys):
    splits = {key: split_of(*key) for key in keys}
    both = {key: steps for key, steps in keys.items() if splits[key] != "train"}
    assert flagged(both, np.array([splits[key] == "test" for key in both])) == []


@pytest.mark.parametrize(
    ("planted", "by"), [(by_numbers, "sum + target mod 10"), (by_characters, "sum + target mod 9")]
)
def test_a_split_by_congruence_class_is_caught(keys, planted, by):
    # the class fixes sum + target modulo 10, or the sum of all digits; targets and sums alone shift far less
    held_out = np.array([planted(*key) for key in keys])
    assert 0.05 < held_out.mean() < 0.2  # its size would not give it away
    assert by in flagged(keys, held_out)


@pytest.mark.parametrize(("name", "share"), [("train", 0.8), ("validation", 0.1), ("test", 0.1)])
def test_shares_are_80_10_10(keys, name, share):
    count = sum(split_of(*key) == name for key in keys)
    assert abs(count - share * len(keys)) < 5 * math.sqrt(len(keys) * share * (1 - share))
