"""Advantage estimators of the field, against numbers worked by hand and against each other."""

import pytest
import torch

from trainer.methods.advantages import (
    GRPO,
    AsymGRPO,
    WReinforce,
    dr_grpo,
    nsr,
    psr,
    raft,
    reinforce,
    reinforce_rej,
    rloo,
)

EXACT = {"rtol": 0, "atol": 1e-12}
COMPARING = [GRPO(), dr_grpo, rloo, AsymGRPO(), reinforce_rej]
BY_CORRECTNESS = [psr, nsr, WReinforce(0.3), AsymGRPO()]


def test_dr_grpo_and_rloo_by_hand():
    rewards = torch.tensor([[3.0, 0.0, 0.0, 1.0]])  # mean 1
    torch.testing.assert_close(dr_grpo(rewards), torch.tensor([[2.0, -1.0, -1.0, 0.0]]), **EXACT)
    torch.testing.assert_close(rloo(rewards), torch.tensor([[8 / 3, -4 / 3, -4 / 3, 0.0]]), **EXACT)


def test_rloo_is_the_reward_minus_the_mean_of_the_others():
    rewards = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    others = (rewards.sum(-1, keepdim=True) - rewards) / 4
    torch.testing.assert_close(rloo(rewards), rewards - others, **EXACT)


@pytest.mark.parametrize("estimate", [GRPO(eps=0.0), dr_grpo, rloo, reinforce_rej, AsymGRPO()])
def test_equal_rewards_have_advantage_0_to_the_last_bit(estimate):
    for reward in (0.1, 1.0, 0.0, -1.0):
        assert torch.equal(estimate(torch.full((2, 10), reward)), torch.zeros(2, 10))


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (reinforce, [1.0, -1.0, -0.5, 2.0]),
        (raft, [1.0, 0.0, 0.0, 2.0]),
        (psr, [1.0, 0.0, 0.0, 1.0]),
        (nsr, [0.0, -1.0, -1.0, 0.0]),
        (WReinforce(), [0.1, -1.0, -1.0, 0.1]),
        (WReinforce(0.7), [0.7, -1.0, -1.0, 0.7]),
        (reinforce_rej, [1.0, -1.0, -0.5, 2.0]),
    ],
)
def test_estimators_without_a_baseline_by_hand(estimate, expected):
    torch.testing.assert_close(estimate(torch.tensor([[1.0, -1.0, -0.5, 2.0]])), torch.tensor([expected]), **EXACT)


def test_asym_grpo_by_hand_and_as_grpo_at_one_half():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])  # m = 1/5: odds 4 and 1/4
    found = AsymGRPO()(rewards)[0].tolist()
    assert found == pytest.approx([4**0.9, *4 * [-(0.25**0.4)]], abs=1e-12)
    # GRPO with the population's deviation 2/5: 0.8 / 0.4 and -0.2 / 0.4
    torch.testing.assert_close(AsymGRPO(0.5, 0.5)(rewards), torch.tensor([[2.0, *4 * [-0.5]]]), **EXACT)


def test_asym_grpo_with_exponent_0_is_plus_and_minus_one_also_in_groups_of_one_outcome():
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    expected = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0]])
    assert torch.equal(AsymGRPO(0.0, 0.0)(rewards), expected)
    assert torch.equal(AsymGRPO(0.0, 0.4)(rewards)[:2], torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


@pytest.mark.parametrize("estimate", BY_CORRECTNESS)
def test_the_sign_of_the_reward_alone_counts(estimate):
    zero_one = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert torch.equal(estimate(zero_one), estimate(2 * zero_one - 1))


def test_psr_and_nsr_differ_by_a_constant():
    rewards = torch.tensor([[1.0, 0.0, -2.0, 0.5]])
    assert torch.equal(psr(rewards) - nsr(rewards), torch.ones(1, 4))
    assert torch.equal(WReinforce(0.0)(rewards), nsr(rewards))


@pytest.mark.parametrize("estimate", COMPARING)
def test_groups_and_repeats_do_not_mix_and_groups_of_one_are_refused(estimate):
    rewards = (torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.5) * 2.0
    for repeat in range(2):
        for prompt in range(3):
            alone = estimate(rewards[repeat, prompt][None])[0]
            assert torch.equal(estimate(rewards)[repeat, prompt], alone)
    with pytest.raises(ValueError, match=r"group_size=1.*at least 2"):
        estimate(torch.ones(2, 1))


@pytest.mark.parametrize(
    "build", [lambda: WReinforce(-0.1), lambda: AsymGRPO(b_neg=-0.4), lambda: WReinforce(torch.nan)]
)
def test_settings_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match=r"must not .*negative"):
        build()
