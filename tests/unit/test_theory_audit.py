"""The audit's parts: policies of the wanted entropy, exact expectations against enumeration, and planted errors."""

import itertools
import math

import pytest
import torch

from entropy_theory import (
    entropy,
    entropy_change,
    first_order_change,
    policy_of,
    sampled_token_delta,
    second_order_change,
    theorem1,
    theorem2,
)
from entropy_theory.audit import baseline, one_sided, policies, reproduction, sign_rule
from entropy_theory.every_token import every_token


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("target", [0.05, 0.6, 2.0])
@pytest.mark.parametrize("family", ["zipf", "peaked", "gaussian"])
def test_families_have_the_wanted_entropy(family, target):
    found = policies.FAMILIES[family](20, target, 50, generator())
    assert entropy(found.logits).tolist() == pytest.approx([target] * len(found.logits), abs=1e-6)


@pytest.mark.parametrize("target", [0.1, 1.0, 2.5])
def test_dirichlet_has_the_wanted_mean_entropy(target):
    values = entropy(policies.dirichlet(20, target, 4000, generator()).logits)
    # Odds of a false alarm: 6e-7.
    assert abs(values.mean() - target) < 5 * values.std() / math.sqrt(len(values))


def test_dirichlet_is_torchs_own():
    ours = policies.dirichlet_logits(5, 0.7, 20_000, generator()).softmax(-1)
    torch.manual_seed(0)
    theirs = torch.distributions.Dirichlet(torch.full((5,), 0.7)).sample((20_000,))
    for one, other in ((ours, theirs), (ours.square(), theirs.square()), (ours.log(), theirs.log())):
        error = math.sqrt((one.var() / one.shape[0] + other.var() / other.shape[0]).item())
        assert abs((one.mean(0) - other.mean(0)).abs().max()) < 5 * error


def test_peaked_takes_the_rising_side():
    shares = policies.peaked(200, 2.0, 10, generator()).logits.softmax(-1)
    assert bool((shares.argmax(-1) == 0).all())
    assert bool((shares[:, 0] > 0.5).all())


def test_targets_leave_room():
    assert max(policies.targets(4)) <= 0.9 * math.log(4)
    assert policies.targets(151_936) == list(policies.TARGETS)


def by_hand(logits):
    """The columns of the map for one policy, from the step of every token."""
    p, arms = logits.softmax(-1), len(logits)
    rows, tokens = logits.expand(arms, arms), torch.arange(arms)
    up, down = (sampled_token_delta(rows, tokens, step) for step in (1.0, -1.0))
    effect, largest = first_order_change(rows, up), p.argmax()
    advantage = (tokens == largest).double() - p[largest]
    sharp = p ** (1 / 0.6) / (p ** (1 / 0.6)).sum()

    def share(weights):
        sizes = weights * effect.abs()
        return (sizes * (effect <= 0)).sum() / sizes.sum()

    return {
        "entropy": entropy(logits),
        "holds": (p * (effect <= 0)).sum(),
        "claimed": (p * theorem1(rows, tokens, up).claimed_probability).sum(),
        "holds_top": (effect[largest] <= 0).double(),
        "holds_up": (p * (entropy_change(rows, up) <= 0)).sum(),
        "holds_down": (p * (entropy_change(rows, down) >= 0)).sum(),
        "weighted": share(p),
        "weighted_sharp": share(sharp),
        "weighted_confident": share(p * advantage.abs()),
        "drift": 2 * (p * second_order_change(rows, up)).sum(),
        "drift_negative": ((p * second_order_change(rows, up)).sum() < 0).double(),
    }


def test_a_cell_is_the_mean_over_its_policies():
    logits = 2 * torch.randn(7, 6, generator=generator())
    row, split = sign_rule.cell("gaussian", logits, 2.0)
    columns = [by_hand(one) for one in logits]
    for name in columns[0]:
        assert getattr(row, name) == pytest.approx(sum(one[name].item() for one in columns) / 7, abs=1e-12), name
    assert row.weighted == pytest.approx(0.5, abs=1e-12)
    assert len({round(getattr(row, name), 6) for name in columns[0]}) > 8  # different numbers, so that no two swap
    assert row.holds == pytest.approx(sum(part.mass * part.holds for part in split if part.mass > 0), abs=1e-12)
    assert sum(part.mass for part in split) == pytest.approx(1, abs=1e-12)
    assert (row.vocabulary, row.policies) == (6, 7)


def test_blocks_of_policies_change_nothing(monkeypatch):
    logits = torch.randn(7, 6, generator=generator())
    whole = sign_rule.cell("gaussian", logits, 2.0)
    monkeypatch.setattr(sign_rule, "ROWS_AT_ONCE", 12)
    assert [repr(part) for part in sign_rule.cell("gaussian", logits, 2.0)] == [repr(part) for part in whole]


def test_the_reference_is_reproduced_and_a_flipped_sign_is_not(monkeypatch):
    few = [row for row in reproduction.REFERENCES if row.vocabulary == 20]
    monkeypatch.setattr(reproduction, "REFERENCES", few)
    # 8 numbers at 5 standard errors: odds of a false alarm 5e-6.
    assert max(abs(row.z) for row in reproduction.reproductions(generator())) < 5

    def flipped(logits):
        found = every_token(logits)
        return type(found)(-found.influence, found.baseline, found.claimed_probability)

    monkeypatch.setattr(sign_rule, "every_token", flipped)
    assert max(abs(row.z) for row in reproduction.reproductions(generator())) > 50


def groups(setting, size):
    """Every ordered group of `size` tokens: its probability and its tokens."""
    p = policy_of(setting.logits).probs
    for tokens in itertools.product(range(len(p)), repeat=size):
        yield math.prod(p[t].item() for t in tokens), torch.tensor(tokens)


def advantage_of(rewards, denominator):
    """Advantages times kept, and the denominator, of positives-only and of negatives-only, written out."""
    size = len(rewards)
    if denominator == "GRPO, all rollouts":
        normal = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        return (normal.clamp(min=0), size), (normal.clamp(max=0), size)
    kept = (rewards, rewards.sum().item()), (rewards - 1, (1 - rewards).sum().item())
    return kept if denominator == "kept rollouts" else tuple((a, size) for a, _ in kept)


@pytest.mark.parametrize("denominator", one_sided.DENOMINATORS)
@pytest.mark.parametrize("size", [2, 3])
def test_one_sided_expectations_by_enumeration(size, denominator, monkeypatch):
    monkeypatch.setattr(one_sided, "GROUP_SIZES", (size,))
    setting = one_sided.Setting("x", torch.tensor([1.0, 0.2, -0.7, 0.4]), torch.tensor([True, False, False, True]))
    expected = [0.0, 0.0]
    for odds, tokens in groups(setting, size):
        rows = setting.logits.expand(size, -1)
        for side, (advantage, divisor) in enumerate(advantage_of(setting.right[tokens].double(), denominator)):
            step = sampled_token_delta(rows, tokens, advantage).sum(0) / max(divisor, 1)
            expected[side] += odds * first_order_change(setting.logits, step).item()
    (row,) = (one for one in one_sided.expected_first_orders(setting) if one.denominator == denominator)
    assert (row.positives, row.negatives) == pytest.approx(expected, abs=1e-10)


def test_both_sides_are_equal_over_all_rollouts_and_only_there():
    rows = list(one_sided.expected_first_orders(one_sided.settings(generator())[0]))
    ratios = {(row.denominator, row.group_size): row.ratio for row in rows}
    mu = rows[0].accuracy
    for size in one_sided.GROUP_SIZES:
        assert ratios["all rollouts", size] == pytest.approx(1, abs=1e-9)
        assert ratios["GRPO, all rollouts", size] == pytest.approx((1 - mu) / mu, rel=1e-9)  # X5
    assert ratios["kept rollouts", 64] == pytest.approx((1 - mu) / mu, rel=1e-2)  # X3: 1/mu against 1/(1 - mu)


def test_what_breaks_the_tie_is_the_second_order(monkeypatch):
    monkeypatch.setattr(one_sided, "DRAWS", 10_000)
    monkeypatch.setattr(one_sided, "LEARNING_RATES", (0.02,))
    rows = list(one_sided.ties(one_sided.settings(generator())[0], generator(1)))
    for row in rows:
        assert abs(row.z) > 20
        assert abs(row.z_second_order) < 5  # odds of a false alarm: 2e-6 for the three
        assert abs(row.difference + row.second_order) > 20 * row.difference_se  # the other sign would show


def test_learnt_policies_have_their_likeliest_arms_right():
    for setting in one_sided.settings(generator()):
        assert setting.right.sum() == 5
        if "learnt" in setting.name:
            assert setting.right[setting.logits.argsort(descending=True)[:5]].all()


def test_the_mean_baseline_is_that_of_its_tokens():
    logits = torch.randn(5, 8, generator=generator())
    policy, found = policy_of(logits), every_token(logits)
    expected = (policy.probs * found.baseline).sum(-1).mean().item()
    assert baseline.mean_baseline(policy, found) == pytest.approx(expected, rel=1e-10)


def test_the_median_is_by_weight():
    values, weights = torch.tensor([[5.0, 1.0, 3.0]]), torch.tensor([[0.2, 0.3, 0.5]])
    assert baseline.median(values, weights) == 3.0
    assert baseline.median(values, torch.tensor([[0.6, 0.3, 0.1]])) == 5.0


def test_the_placeholder_by_hand():
    # p = (2/3, 1/3): token 0 sees 1e-4 ln(1/3), token 1 sees 1e-4 ln(2/3)
    logits = torch.tensor([[math.log(2), 0.0]])
    row = baseline.compared("peaked", policy_of(logits), every_token(logits))
    assert row.placeholder == pytest.approx(1e-4 * (2 / 3 * math.log(1 / 3) + 1 / 3 * math.log(2 / 3)), rel=1e-10)
    assert row.placeholder_weight == pytest.approx(1e-4)
    assert row.log_prob == pytest.approx(-entropy(logits).item(), abs=1e-12)
    assert row.holds == pytest.approx(2 / 3)
    assert row.placeholder_holds == 0.0


def test_responses_are_theorem_2(monkeypatch):
    # One policy over two arms and responses of two tokens: four responses, by enumeration.
    monkeypatch.setattr(baseline, "SAMPLED", 2**15)
    monkeypatch.setattr(baseline, "LENGTHS", (2,))
    logits = torch.tensor([[1.3, 0.0, -0.4]])
    p = logits.softmax(-1)[0]
    condition = rule = agree = 0.0
    for tokens in itertools.product(range(3), repeat=2):
        rows, token = logits.expand(2, 3), torch.tensor(tokens)
        found = theorem2(rows, token, sampled_token_delta(rows, token, 1.0))
        odds = (p[tokens[0]] * p[tokens[1]]).item()
        condition += odds * found.condition.item()
        rule += odds * (found.change <= 0).item()
        agree += odds * (found.condition == (found.change <= 0)).item()
    (row,) = baseline.sampled_responses("x", policy_of(logits), every_token(logits), generator())
    within = 5 * 0.5 / math.sqrt(row.responses)
    assert (row.condition, row.rule, row.agree) == pytest.approx((condition, rule, agree), abs=within)
    assert row.tokens == 2
