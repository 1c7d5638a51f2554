"""The numbers of a row against what they are defined to be, recomputed without the trainer.

The oracle is transformers' model, one unpadded sequence at a time, under its default attention.
"""

import re

import pytest
import torch
import transformers

import entrocraft

LONGEST = 13
BANDS = {"above": "[0.01,0.02]", "below": "[5.0,6.0]", "inside": "[0.01,6.0]"}
SIDE = {"above": 1, "below": -1, "inside": 0}


def constant(side):
    return {"band.schedule": "constant", "band.unit": "nats", "band.start": BANDS[side]}


class Oracle:
    """A model from a folder, in float64."""

    def __init__(self, folder):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def ids(self, rollout):
        """Prompt ids and completion ids; a completion of full length can have been cut before its end token."""
        words = len(rollout["completion"].split())
        end = [self.tokenizer.eos_token_id] if words < LONGEST else []
        return self.tokenizer(rollout["prompt"]).input_ids, self.tokenizer(rollout["completion"]).input_ids + end

    def logits(self, rollout):
        prompt, completion = self.ids(rollout)
        logits = self.model(torch.tensor([prompt + completion])).logits[0]
        return logits[len(prompt) - 1 : -1], torch.tensor(completion)

    def entropy(self, rollouts, temperature=1.0):
        """Entropy in nats, mean over all completion tokens, and its gradient's graph."""
        per_token = []
        for rollout in rollouts:
            log_prob = (self.logits(rollout)[0] / temperature).log_softmax(-1)
            per_token.append(-(log_prob.exp() * log_prob).sum(-1))
        return torch.cat(per_token).mean()


@pytest.fixture(scope="module")
def base():
    return Oracle(entrocraft.load("trainer.model").SHIPPED["countdown-0.2m"])


@pytest.fixture(scope="module")
def watched(tiny, plugins):
    """A run whose every checkpoint and every rollout is kept, and whose probe is the whole batch."""
    return tiny(
        {
            "reward.function": f"{plugins}:parity",
            "rollout.temperature": "0.7",
            "theory.probe_rows": "16",
            "theory.second_order": "true",
            "checkpoint.every": "1",
            "checkpoint.keep": "0",
        }
    )


@torch.no_grad()
def test_entropy_is_that_of_the_sampling_policy(watched, base):
    rollouts, row = watched.rollouts(0), watched.rows[0]
    assert len(rollouts) == 16
    assert row["entropy"] == pytest.approx(float(base.entropy(rollouts, 0.7)), abs=1e-5)
    assert row["entropy_t1"] == pytest.approx(float(base.entropy(rollouts)), abs=1e-5)
    assert row["entropy_t1"] > row["entropy"] + 0.05


def test_lengths_and_counts_are_those_of_the_rollouts(watched, base):
    tokens = 0
    for step, row in enumerate(watched.rows):
        completions = [base.ids(rollout)[1] for rollout in watched.rollouts(step)]
        tokens += sum(map(len, completions))
        assert (row["samples"], row["tokens"]) == (16 * (step + 1), tokens)
        assert row["response_length"] == pytest.approx(sum(map(len, completions)) / 16)
        ended = [ids[-1] == base.tokenizer.eos_token_id for ids in completions]
        assert row["finished_fraction"] == pytest.approx(sum(ended) / 16)
        assert not any(re.search("<eos>", rollout["completion"]) for rollout in watched.rollouts(step))


def test_measured_and_predicted_changes_are_those_of_the_checkpoints(watched, base):
    """dH_measured from two sets of weights; dH_first_order from autograd and the difference of the two."""
    folders = [watched.path / "checkpoints" / f"step_{step}" for step in (1, 2, 3)]
    oracles = [base, *map(Oracle, folders)]
    for step, row in enumerate(watched.rows):
        before, after, rollouts = oracles[step], oracles[step + 1], watched.rollouts(step)
        entropy = before.entropy(rollouts, 0.7)
        measured = float(after.entropy(rollouts, 0.7).detach() - entropy.detach())
        assert row["dH_measured"] == pytest.approx(measured, abs=2e-6)
        gradient = torch.autograd.grad(entropy, list(before.model.parameters()))
        moved = [(b - a).detach() for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True)]
        first = sum(float((g * d).sum()) for g, d in zip(gradient, moved, strict=True))
        assert row["dH_first_order"] == pytest.approx(first, rel=1e-3, abs=1e-7)
        assert abs(first + row["dH_second_order"] - measured) < abs(first - measured)
    assert max(abs(row["dH_measured"]) for row in watched.rows) > 1e-3


def test_the_band_is_the_schedule_in_units_of_the_first_entropy(tiny, plugins):
    for schedule, share in (("linear", (0, 1 / 3, 2 / 3)), ("cosine", (0, 0.25, 0.75)), ("constant", (0, 0, 0))):
        rows = tiny({"reward.function": f"{plugins}:parity", "band.schedule": schedule}).rows
        unit = rows[0]["entropy"]
        for row, u in zip(rows, share, strict=True):
            assert row["entropy_low"] == pytest.approx(unit * (0.92 + (0.62 - 0.92) * u))
            assert row["entropy_high"] == pytest.approx(unit * (1.08 + (0.77 - 1.08) * u))
            side = (row["entropy"] > row["entropy_high"]) - (row["entropy"] < row["entropy_low"])
            assert row["band_indicator"] == side


@pytest.mark.parametrize("side", ["above", "below", "inside"])
@pytest.mark.parametrize("name", ["none", "algorithm1", "released"])
def test_what_each_filter_accepts_follows_from_the_rewards(tiny, plugins, name, side):
    """Algorithm 1: m A >= 0. Released variant: outside the band, signed rewards of one sign in place of advantages."""
    settings = {"reward.function": f"{plugins}:parity", "algorithm.filter": name, **constant(side)}
    if name == "released":
        settings |= {"reward.convention": "signed", "algorithm.denominator": "zero"}
    run, m = tiny({**settings, "steps": "2"}), SIDE[side]
    accepted = []
    for step, row in enumerate(run.rows):
        rollouts = run.rollouts(step)
        raw = torch.tensor([rollout["reward"] for rollout in rollouts]).reshape(4, 4)
        assert set(raw.flatten().tolist()) == {0.0, 1.0}
        rewards = 2 * raw - 1 if name == "released" else raw
        mixed = rewards.amax(1) != rewards.amin(1)
        advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-6)
        advantages[~mixed] = 0.0
        keep = torch.ones(4, 4, dtype=torch.bool)
        if name == "algorithm1":
            keep = m * advantages >= 0
        elif name == "released" and m:
            keep, advantages = rewards == m, rewards.clamp(min=0) if m > 0 else rewards.clamp(max=0)
        assert row["band_indicator"] == m
        assert [rollout["weight"] for rollout in rollouts] == keep.double().flatten().tolist()
        logged = torch.tensor([rollout["advantage"] for rollout in rollouts])
        assert logged == pytest.approx(advantages.flatten(), abs=1e-5)
        share = float(keep.double().mean())
        assert row["accepted_fraction"] == share
        assert row["effective_group_size"] == 4 * share
        assert row["mixed_groups"] == float(mixed.double().mean())
        assert row["reward_mean"] == pytest.approx(float(raw.mean()))
        assert row["rows_computed"] == int((keep & (advantages != 0)).sum())
        accepted.append(share)
    assert (min(accepted) < 1) == (name != "none" and side != "inside")


def test_ratios_of_the_first_mini_batch_are_one(tiny, plugins):
    """Sampler and trainer agree; no ratio of the first mini-batch is clipped."""
    rows = tiny({"reward.function": f"{plugins}:parity", "algorithm.mini_batches": "1"}).rows
    for row in rows:
        assert row["log_prob_gap"] < 1e-5
        assert row["ratio_max"] == pytest.approx(1, abs=1e-5)
        assert (row["clip_low_fraction"], row["clip_high_fraction"]) == (0, 0)
        assert 0 <= row["sign_rule_agreement"] <= 1
    tabular = [row["dH_tabular"] for row in rows]
    assert tabular[0] is None
    assert tabular[1:] == pytest.approx([row["dH_tabular_unit"] * row["dH_tabular_scale"] for row in rows[1:]])
    assert rows[1]["dH_tabular_scale"] == pytest.approx(rows[0]["dH_measured"] / rows[0]["dH_tabular_unit"])
