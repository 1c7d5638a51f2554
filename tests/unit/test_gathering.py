"""Rollouts of several processes joined are those of one that sampled all prompts."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from trainer.gathering import everyones, joined, joined_scores
from trainer.rewards import Part, Rewards, score
from trainer.sampling import Sampling, sample
from trainer.streams import TokenUniforms
from trainer.workers import ALONE, Workers

# Widths differ: the longest prompt is in the second share, and completions end at different lengths.
PROMPTS, GROUP, TEMPERATURES = [[5, 3], [2], [0, 6, 6, 4, 9], [11, 1, 4]], 3, (0.5, 2.0)


def sampled(policy, prompts, longest=7):
    """Rollouts of the prompts at these places, as one process would sample them."""
    return sample(
        policy,
        [PROMPTS[place] for place in prompts],
        GROUP,
        longest,
        Sampling(0.8),
        generator=TokenUniforms(1),
        prompt_index=prompts,
        statistics=True,
        temperatures=TEMPERATURES,
    )


def assert_same(one, other):
    assert (one.group_size, one.tempered.keys()) == (other.group_size, other.tempered.keys())
    pairs = [(getattr(one, item.name), getattr(other, item.name), item.name) for item in fields(one)]
    pairs += [(one.tempered[value], other.tempered[value], f"tempered {value}") for value in one.tempered]
    for mine, theirs, name in pairs:
        if isinstance(mine, Tensor):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12, msg=name)


def cut(rollouts):
    """The same rollouts without columns that none of them needs."""
    return rollouts.rows(torch.arange(len(rollouts.mask)))


@pytest.mark.parametrize("shares", [([0, 1], [2, 3]), ([2], [0, 1, 3]), ([0], [1], [2], [3])])
def test_shares_joined_are_the_batch_sampled_together(tiny, shares):
    order = [place for share in shares for place in share]
    parts = [cut(sampled(tiny, share)) for share in shares]
    assert len({part.tokens.shape[1] for part in parts}) > 1
    assert_same(joined(parts), cut(sampled(tiny, order)))


def test_completions_of_different_width_are_padded_on_the_right(tiny):
    short, long = sampled(tiny, [0, 1], longest=2), sampled(tiny, [2, 3], longest=7)
    both = joined([short, long])
    assert both.completions() == short.completions() + long.completions()
    width = both.tokens.shape[1] - both.mask.shape[1]
    prompts = [both.tokens[row, :width][both.attention[row, :width]].tolist() for row in range(4 * GROUP)]
    assert prompts == [prompt for prompt in PROMPTS for _ in range(GROUP)]
    assert both.finished.tolist() == short.finished.tolist() + long.finished.tolist()
    for values in (both.log_prob, *both.tempered.values()):
        assert not values[~both.mask].any()
        assert (values[both.mask] < 0).all()


def odd(prompts, completions, completion_ids, **columns):
    return [float(len(ids) % 2) for ids in completion_ids]


class Partial:
    """Answers for prompts of even ids alone, and says that one check a call failed."""

    failures = 0

    def __call__(self, prompts, completions, completion_ids, key, **columns):
        self.failures += 1
        return [None if value % 2 else 1.0 for value in key]


def test_rewards_joined_are_those_of_the_batch_with_none_where_a_function_had_no_answer():
    rows = [{"prompt": "p", "key": key} for key in range(3)]
    ids = [[1] * (place % 4 + 1) for place in range(6)]
    texts = [" ".join(map(str, item)) for item in ids]

    def scored(part):
        rewards = Rewards((Part("odd", odd), Part("partial", Partial(), 0.5)))
        chosen = slice(2 * part.start, 2 * part.stop)
        return score(rewards, rows[part.start : part.stop], texts[chosen], ids[chosen])

    both, whole = joined_scores([scored(range(1)), scored(range(1, 3))]), scored(range(3))
    assert torch.equal(both.total, whole.total)
    assert both.parts.keys() == whole.parts.keys()
    for name, values in whole.parts.items():
        torch.testing.assert_close(both.parts[name], values, equal_nan=True, rtol=0, atol=0)
    assert both.parts["partial"].isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert both.failures == {"partial": 2}
    assert both.info == {"reward/odd": 0.5, "reward/partial": 1.0, "reward/failures": 2.0}


def test_a_process_alone_keeps_its_own(tiny):
    own = (sampled(tiny, [0]), ["a", "b", "c"], score(odd, [{"prompt": "p"}], ["a", "b", "c"], [[1], [1], [1, 2]]))
    assert everyones(own, ALONE) is own


def test_one_process_speaks_for_all(capsys):
    for rank in range(3):
        Workers(rank, 3).say(f"left out by {rank}")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "left out by 0\n")
