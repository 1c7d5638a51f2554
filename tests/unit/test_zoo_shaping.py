"""Shaping methods of the field, against numbers worked by hand."""

import math
from dataclasses import replace

import pytest
import torch

from trainer.methods.advantages import dr_grpo
from trainer.methods.reweighting import EntroPICPaper, PositiveReweighting
from trainer.methods.shaping import AEM, DCPO, REPO, UCPO, Whiten
from trainer.methods.stages import Band, Groups, Observation, TokenRecord, as_controller
from trainer.methods.token_shaping import OPEFO, ClipB, ClipV

EXACT = {"rtol": 0, "atol": 1e-12}
BAND = Band(0.3, 0.4)
E = math.e


def groups(rewards, advantages=None, entropy=0.35, record=None):
    rewards = torch.as_tensor(rewards)
    given = rewards if advantages is None else torch.as_tensor(advantages)
    return Groups(rewards, given, entropy, BAND, step=0, record=record)


def a_record(lengths, log_prob=None, entropy=None, **further):
    """A record of one group of rollouts of these lengths; values are listed per rollout and padded with 0."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

    def padded(rows):
        return torch.tensor([[*row, *(max(lengths) - len(row)) * [0.0]] for row in rows])[None]

    blank = torch.zeros(mask.shape)[None]
    values = {"log_prob": log_prob, "entropy": entropy, **further}
    return TokenRecord(mask[None], **{name: blank if rows is None else padded(rows) for name, rows in values.items()})


def one_token_each(**values):
    """A record of one group of rollouts of one token."""
    count = len(next(iter(values.values())))
    return a_record([1] * count, **{name: [[value] for value in row] for name, row in values.items()})


def observed(entropy):
    return Observation(step=0, entropy=entropy, band=BAND)


def stacked(first, second):
    """Two batches as two repeats."""
    record = None
    if first.record is not None:
        tensors = [{k: v for k, v in vars(g.record).items() if isinstance(v, torch.Tensor)} for g in (first, second)]
        tempered = {t: torch.stack([g.record.tempered[t] for g in (first, second)]) for t in first.record.tempered}
        record = TokenRecord(**{k: torch.stack([t[k] for t in tensors]) for k in tensors[0]}, tempered=tempered)
    return Groups(
        torch.stack([first.rewards, second.rewards]),
        torch.stack([first.advantages, second.advantages]),
        torch.tensor([first.entropy, second.entropy]),
        BAND,
        step=0,
        record=record,
    )


def test_whiten_by_hand():
    # returns 0.5 * 2 and 2 over the first rollout's tokens, 0 over the second's: mean 1, variance (0 + 1 + 1) / 2 = 1
    found = Whiten(gamma=0.5, eps=0.0)(groups([[2.0, 0.0]], record=a_record([2, 1])))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]), **EXACT)
    with_eps = Whiten(gamma=0.5, eps=3.0)(groups([[2.0, 0.0]], record=a_record([2, 1])))
    torch.testing.assert_close(with_eps, found / 2, **EXACT)


def test_whitened_tokens_have_mean_0_and_variance_1_and_equal_returns_are_0():
    record = a_record([3, 1, 4])
    rewards = torch.tensor([[1.0, 0.0, 0.4]])
    tokens = Whiten(eps=0.0)(groups(rewards, dr_grpo(rewards), record=record))[record.mask]
    assert tokens.mean().item() == pytest.approx(0, abs=1e-12)
    assert tokens.var().item() == pytest.approx(1, abs=1e-12)
    assert torch.equal(Whiten(eps=0.0)(groups([[0.1, 0.1, 0.1]], record=record)), torch.zeros(1, 3, 4))


def test_ucpo_by_hand():
    # u = -2 (a mean of -1 and -3) and -1: 1/q is as e to 1; factors 1 - 0.5 + 0.5 * 2 * share
    record = a_record([2, 1, 1], log_prob=[[-1.0, -3.0], [-1.0], [-9.0]])
    found = UCPO(0.5)(groups([[1.0, 1.0, 0.0]], [[2.0, 2.0, -3.0]], record=record))
    expected = torch.tensor([[2 * (0.5 + E / (1 + E)), 2 * (0.5 + 1 / (1 + E)), -3.0]])
    torch.testing.assert_close(found, expected, **EXACT)
    assert found[0, :2].sum().item() == pytest.approx(4.0, abs=1e-12)  # the positive total stays
    tokens = torch.tensor([[[2.0, 2.0], [2.0, 0.0], [-3.0, 0.0]]])
    per_token = UCPO(0.5)(groups([[1.0, 1.0, 0.0]], tokens, record=record))
    torch.testing.assert_close(per_token, expected[..., None] * (tokens != 0), **EXACT)


def test_ucpo_leaves_tau_0_and_groups_with_one_right_answer_or_none_alone_and_floors_q():
    record = one_token_each(log_prob=[-1.0, -4.0, -50.0])
    for rewards, tau in ([[1.0, 0.0, 0.0], 0.9], [[0.0, 0.0, 0.0], 0.9], [[1.0, 1.0, 1.0], 0.0]):
        given = groups([rewards], [[0.3, -0.2, 0.7]], record=record)
        torch.testing.assert_close(UCPO(tau)(given), given.advantages, **EXACT)
    # q = (1, exp(-49), below the floor 1e-6): 1/q is as 1 to 1e6
    floored = UCPO(1.0)(groups([[1.0, 0.0, 1.0]], record=record))
    torch.testing.assert_close(floored, torch.tensor([[2 / (1 + 1e6), 0.0, 2e6 / (1 + 1e6)]]), rtol=0, atol=1e-9)


def test_aem_by_hand():
    # means 0.2, 0.6, 1.2: h = 0, 0.4, 1
    record = a_record([2, 1, 1], entropy=[[0.1, 0.3], [0.6], [1.2]])
    weights = [math.exp(-2 * h) for h in (0.0, 0.4, 1.0)]
    mean = sum(weights) / 3
    found = AEM(strength=2.0)(groups([[1.0, -2.0, 0.5]], record=record))
    expected = torch.tensor([[weights[0] / mean, -2 * weights[1] / mean, 0.5 * weights[2] / mean]])
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize(("least", "changed"), [(0.1, False), (0.05, True), (0.0, True)])
def test_aem_keeps_groups_of_little_spread_and_rollouts_without_tokens(least, changed):
    given = groups([[1.0, -1.0]], record=one_token_each(entropy=[0.5, 0.58]))
    assert torch.equal(AEM(least_spread=least)(given), given.advantages) != changed
    empty = groups([[1.0, -1.0, 3.0]], record=a_record([1, 1, 0], entropy=[[0.2], [0.9], []]))
    torch.testing.assert_close(AEM()(empty), torch.tensor([[2 / (1 + 1 / E), -2 / (1 + E), 3.0]]), **EXACT)


def dcpo_batch(entropy, rewards=(1.0, -1.0, -1.0, -1.0)):
    log_prob = torch.tensor([-2.0, -1.0, -1.0, -1.0])
    record = one_token_each(log_prob=log_prob.tolist())
    tempered = {1.2: record.log_prob + 0.7, 0.8: record.log_prob - 0.3}
    return groups([list(rewards)], [[3.0, -1.0, -1.0, -0.5]], entropy, replace(record, tempered=tempered))


@pytest.mark.parametrize(
    ("entropy", "w", "ratio"),
    [
        (0.45, 0.05 / 0.3, math.exp(0.7)),  # too low by 0.05, a quarter right: x = 0.2, w = 1/6; the hot policy
        (0.9, 0.1 / 0.35, math.exp(-0.3)),  # too high, the gap cut at 0.1: x = 0.4; the cold policy
        (0.5, 0.0, 1.0),
    ],
)
def test_dcpo_by_hand(entropy, w, ratio):
    expected = torch.tensor([[3 * (1 - w) + w * ratio, -(1 - w), -(1 - w), -0.5 * (1 - w)]])[..., None]
    torch.testing.assert_close(DCPO()(dcpo_batch(entropy)), expected, **EXACT)


def test_dcpo_leaves_a_batch_without_right_answers_alone_and_asks_for_its_temperatures():
    given = dcpo_batch(0.1, rewards=(0.0, 0.0, 0.0, 0.0))
    torch.testing.assert_close(DCPO()(given), given.token_advantages, **EXACT)
    assert DCPO(high=1.5, low=0.5).temperatures == (0.5, 1.5)
    with pytest.raises(ValueError, match=r"DCPO\(groups\) must have groups\.record\.tempered.*1\.5"):
        DCPO(high=1.5)(given)


def test_entropic_paper_by_hand_over_two_steps():
    method = EntroPICPaper()
    first = method.start()
    given = groups([[1.0, -1.0, 0.0]], [[2.0, -3.0, 5.0]], entropy=0.3)  # e = -0.2
    torch.testing.assert_close(method.decide(first, given), torch.tensor([[1.6, -3.6, 6.0]]), **EXACT)
    second, info = method.step(first, observed(0.3))
    assert (first, info["entropic_integral"]) == ({"integral": 0.0}, pytest.approx(-0.002, abs=1e-12))
    found = method.decide(second, replace(given, entropy=0.6))  # alpha = -0.002 + 0.1
    torch.testing.assert_close(found, torch.tensor([[2 * 1.098, -3 * 0.902, 5 * 0.902]]), **EXACT)


LOW = -2 * math.exp(-3)  # S of a token of probability exp(-3) in a context of entropy 1; 0 at probability exp(-1)


@pytest.mark.parametrize(("mu", "masked"), [(1.9, True), (2.1, False)])
def test_clip_b_by_hand(mu, masked):
    # two of ten tokens at LOW: mean 0.2 LOW, deviation 0.4 |LOW|, so they lie 2 deviations below
    record = one_token_each(log_prob=[-3.0, -3.0, *8 * [-1.0]], entropy=10 * [1.0])
    rewards = [-1.5, 2.0, *8 * [-1.0]]
    found = ClipB(mu)(groups([rewards], record=record)).flatten().tolist()
    assert found == [0.0 if masked else -1.5, *rewards[1:]]  # the positive one stays


@pytest.mark.parametrize(
    ("mu", "fraction", "masked"),
    [(1.0, 0.25, [0, 1]), (1.0, 0.1, [1]), (1.0, 0.0, [1]), (2.0, 0.25, [1]), (3.0, 0.25, [])],
)
def test_clip_v_by_hand(mu, fraction, masked):
    # D = 3, 5, 4 and seven times 0: mean 1.2, variance 50 / 10 - 1.44, deviation 1.887
    record = one_token_each(influence=[3.0, 5.0, 4.0, *7 * [0.0]])
    rewards = [-1.0, -1.0, 2.0, *7 * [-0.5]]
    found = ClipV(mu, fraction)(groups([rewards], record=record)).flatten().tolist()
    assert found == [0.0 if place in masked else value for place, value in enumerate(rewards)]


def test_opefo_by_hand_balances_the_predicted_change():
    # A D = 1, -2, -3, 0: U = 1, D = 5, lam = 2/3
    given = groups([[2.0, -1.0, -1.0, 0.0]], record=one_token_each(influence=[0.5, 2.0, 3.0, 9.0]))
    found = OPEFO()(given)
    torch.testing.assert_close(found.flatten(), torch.tensor([10 / 3, -1 / 3, -1 / 3, 0.0]), **EXACT)
    assert (found * given.record.influence).sum().item() == pytest.approx(0, abs=1e-12)
    assert torch.equal(OPEFO()(groups([[0.0, 0.0]], record=one_token_each(influence=[1.0, 2.0]))), torch.zeros(1, 2, 1))


def test_positive_reweighting_moves_towards_the_target_and_stays_between_0_and_1():
    method = PositiveReweighting(target=0.2, increment=0.25)
    state, weights = method.start(), []
    for entropy in (0.9, 0.1, 0.15, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0):
        state, _ = method.step(state, observed(entropy))
        weights.append(float(state["weight"]))
    assert weights == [1.0, 0.75, 0.5, 0.5, 0.75, 0.5, 0.25, 0.0, 0.0]
    found = method.decide({"weight": 0.75}, groups([[2.0, -2.0, 0.0]]))
    assert found.tolist() == [[1.5, -2.0, 0.0]]


def test_repo_by_hand_and_as_an_entropy_bonus_in_expectation():
    record = a_record([2, 1], log_prob=[[-3.0, -0.5], [-1.0]], entropy=[[1.0, 0.75], [0.5]])
    found = REPO(0.1)(groups([[1.0, -1.0]], record=record))  # L = -2, 0.25, -0.5
    torch.testing.assert_close(found, torch.tensor([[[1.2, 0.975], [-0.95, 0.0]]]), **EXACT)
    # every action once, weighed by its probability: sum_k p_k A_k (e_k - p) = beta grad H
    logits = torch.tensor([0.3, -1.0, 0.8, 0.1], requires_grad=True)
    log_p = logits.log_softmax(0)
    entropy = -(log_p.exp() * log_p).sum()
    (expected,) = torch.autograd.grad(0.3 * entropy, logits)
    actions = one_token_each(log_prob=log_p.tolist(), entropy=4 * [entropy.item()])
    pull = REPO(0.3)(groups([4 * [0.0]], record=actions)).flatten() * log_p.exp().detach()
    torch.testing.assert_close(pull - log_p.exp().detach() * pull.sum(), expected, **EXACT)


def random_batch(seed, entropy):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.rand(3, 4, 5, generator=generator)

    mask = torch.arange(5) < torch.randint(1, 6, (3, 4, 1), generator=generator)
    log_prob, token_entropy, influence, hot = (draw() * mask for _ in range(4))
    record = TokenRecord(mask, -log_prob, token_entropy, influence - mask * 0.5)
    rewards = (draw()[..., 0] > 0.4) * 2.0 - 1
    tempered = {1.2: -hot, 0.8: -2 * hot}
    return Groups(rewards, dr_grpo(rewards), entropy, BAND, step=0, record=replace(record, tempered=tempered))


METHODS = [
    Whiten(gamma=0.9),
    UCPO(),
    AEM(least_spread=0.3),
    DCPO(),
    EntroPICPaper(),
    ClipB(1.0),
    ClipV(0.5, 0.1),
    OPEFO(),
    PositiveReweighting(increment=0.3),
    REPO(0.2),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_two_repeats_are_shaped_as_each_alone(method):
    controller, batches = as_controller(method), (random_batch(1, 0.15), random_batch(2, 0.9))
    together = stacked(*batches)
    after, _ = controller.step(controller.start(), observed(together.entropy))
    found = controller.decide(after, together)
    changed = False
    for repeat, batch in enumerate(batches):
        state, _ = controller.step(controller.start(), observed(batch.entropy))
        torch.testing.assert_close(found[repeat], controller.decide(state, batch), **EXACT)
        given = batch.advantages if found[repeat].dim() == 2 else batch.token_advantages
        changed = changed or not torch.equal(found[repeat], given)
    assert changed


@pytest.mark.parametrize("method", [method for method in METHODS if as_controller(method) is not method])
def test_what_was_not_recorded_is_asked_for(method):
    with pytest.raises(ValueError, match=r"must have groups\.record"):
        method(groups([[1.0, -1.0]]))
    if getattr(method, "needs", None):
        with pytest.raises(ValueError, match=r"with influence"):
            method(groups([[1.0, -1.0]], record=one_token_each(log_prob=[-1.0, -1.0])))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (Whiten, {"gamma": 1.1}),
        (Whiten, {"eps": -1.0}),
        (UCPO, {"tau": -0.1}),
        (AEM, {"strength": -1.0}),
        (DCPO, {"low": 1.3}),
        (DCPO, {"target": math.nan}),
        (EntroPICPaper, {"integral_gain": -0.1}),
        (ClipB, {"mu": math.nan}),
        (ClipV, {"max_fraction": 2.0}),
        (PositiveReweighting, {"increment": -0.1}),
    ],
)
def test_settings_out_of_range_are_refused(method, settings):
    with pytest.raises(ValueError, match=rf"{method.__name__}\(.*{next(iter(settings))}=.* must .*; got"):
        method(**settings)
