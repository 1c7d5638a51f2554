"""Loss terms, with and without memory, against numbers worked by hand."""

import math

import pytest
import torch

from trainer.methods.entropy_terms import AEC, AEnt, EntroPIC
from trainer.methods.losses import KLCov, KLPenalty, k1, k2, k3
from trainer.methods.stages import Band, Observation, TokenBatch

CLOSED_FORM = 1e-10


def observed(entropy):
    return Observation(0, entropy, Band(0.0, 9.0))


def walk(controller, entropies, name):
    """Return one of the state's numbers after each observation."""
    state, values = controller.start(), []
    for entropy in entropies:
        state, _ = controller.step(state, observed(entropy))
        values.append(float(state[name]))
    return values


def divergence(p, q):
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize(
    ("estimator", "value", "target"),
    [(k1, -0.5, None), (k2, 0.125, "reverse"), (k3, math.exp(0.5) - 1.5, "forward")],
)
def test_kl_estimators_by_hand_and_the_gradient_that_each_has_as_a_loss(estimator, value, target):
    assert estimator(torch.tensor([-2.5]), torch.tensor([-2.0])).item() == pytest.approx(value, abs=CLOSED_FORM)
    # the expectation over tokens that are drawn from the policy and then held fixed, exactly
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1]).requires_grad_()
    log_prob, reference = logits.log_softmax(-1), torch.tensor([1.0, 0.2, -0.5, 0.4]).log_softmax(-1)
    expected = (log_prob.exp().detach() * estimator(log_prob, reference)).sum()
    (found,) = torch.autograd.grad(expected, logits, retain_graph=True)
    pull = torch.zeros(4)
    if target is not None:
        pair = (log_prob, reference) if target == "reverse" else (reference, log_prob)
        (pull,) = torch.autograd.grad(divergence(*pair), logits)
        assert pull.abs().max() > 0.1
    torch.testing.assert_close(found, pull, rtol=0, atol=CLOSED_FORM)


def test_kl_penalty_takes_its_estimator_by_name_and_asks_for_the_reference():
    half, zeros = torch.tensor([[0.5]]).log(), torch.zeros(1, 1)
    tokens = TokenBatch(half, zeros, zeros, zeros == 0, zeros, reference_log_prob=half - 0.5)
    terms = [KLPenalty(2.0, name)(tokens).item() for name in ("k1", "k2", "k3")]
    assert terms == pytest.approx([1.0, 0.25, 2 * (math.exp(-0.5) - 0.5)], abs=CLOSED_FORM)
    with pytest.raises(ValueError, match=r"KLPenalty\(tokens\) must have tokens.reference_log_prob"):
        KLPenalty(1.0)(TokenBatch(half, zeros, zeros, zeros == 0, zeros))


@pytest.mark.parametrize(
    ("fraction", "chosen"), [(2e-4, [0, 1, 0, 0, 0]), (0.5, [1, 1, 0, 0, 0]), (0.0, [0, 1, 0, 0, 0])]
)
def test_kl_cov_penalises_the_tokens_of_largest_covariance(fraction, chosen):
    # means over the four tokens that count: A 0, log pi -2; cov 2, 4, 0, -1
    log_prob = torch.tensor([[-1.0, -4.0, -2.0, -1.0, -9.0]], requires_grad=True)
    log_ratio = torch.tensor([[0.3, -0.2, 0.4, 0.5, 2.0]])
    advantages = torch.tensor([[2.0, -2.0, 1.0, -1.0, -90.0]])
    mask = torch.tensor([[True] * 4 + [False]])
    tokens = TokenBatch(log_prob, log_prob.detach() - log_ratio, advantages, mask, 0 * advantages)
    term = KLCov(fraction, coefficient=3.0)(tokens)
    expected = [3 * place * abs(value) for place, value in zip(chosen, log_ratio[0].tolist(), strict=True)]
    assert term[0].tolist() == pytest.approx(expected, abs=CLOSED_FORM)
    (gradient,) = torch.autograd.grad(term.sum(), log_prob)  # towards the sampler's log-probability
    assert gradient[0].tolist() == [3.0 * place * sign for place, sign in zip(chosen, (1, -1, 1, 1, 1), strict=True)]


def test_aec_raises_its_coefficient_below_the_target_and_applies_it_there_alone():
    entropies = (0.1, 0.1, 0.3, 0.1)
    assert walk(AEC(), entropies, "coefficient") == pytest.approx([1e-4, 2e-4, 1e-4, 2e-4], abs=1e-15)
    assert walk(AEC(), entropies, "applied") == [1, 1, 0, 1]
    assert walk(AEC(rate=4e-3), (0.1, 0.1, 0.2, 0.2), "coefficient") == pytest.approx([4e-3, 5e-3, 1e-3, 0], abs=1e-15)
    ones = torch.ones(2, 1, 1)
    tokens = TokenBatch(-ones, -ones, ones, ones > 0, 3 * ones)
    state = {"coefficient": torch.tensor([0.02, 0.05]), "applied": torch.tensor([1.0, 0.0])}
    assert AEC().decide(state, tokens).flatten().tolist() == pytest.approx([-0.06, 0.0], abs=CLOSED_FORM)
    assert AEC(initial=1e-3).decide(AEC(initial=1e-3).start(), tokens).abs().sum() == 0


def test_aent_takes_the_entropy_of_the_likelier_part_of_the_vocabulary():
    # of five the int(0.5 * 5) = 2 lowest go: 6/8, 1/8, 1/8 are left
    logits = torch.tensor([[[0.0, -1.0, math.log(6), 0.0, -0.5]]], requires_grad=True)
    ones, term = torch.ones(1, 1), AEnt(dropped=0.5, initial=0.1)
    value = term.decide(term.start(), TokenBatch(-ones, -ones, ones, ones > 0, ones, logits=logits))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.125))
    assert value.item() == pytest.approx(-0.1 * entropy, abs=CLOSED_FORM)
    (gradient,) = torch.autograd.grad(value, logits)
    # d(-H)/dz_i = p_i (log p_i + H): the likely token falls, and nothing reaches those left out
    likely, rare = 0.075 * (math.log(0.75) + entropy), 0.0125 * (math.log(0.125) + entropy)
    assert gradient[0, 0].tolist() == pytest.approx([rare, 0, likely, rare, 0], abs=CLOSED_FORM)


def test_aent_moves_lambda_outside_its_dead_zone():
    # dead zone 0.1 .. 0.5: up by 1e-3 * 0.05, unmoved, down by 1e-3 * 0.4, down to the least
    term = AEnt(initial=1e-3, least=4e-4, most=1.1e-3)
    expected = [1.05e-3, 1.05e-3, 6.5e-4, 4e-4]
    assert walk(term, (0.05, 0.3, 0.9, 9.0), "lambda") == pytest.approx(expected, abs=1e-15)
    assert walk(AEnt(initial=1e-3, most=1.01e-3), (0.0,), "lambda") == pytest.approx([1.01e-3], abs=1e-15)


def entropic_batch(probabilities, advantages, ratio, entropy):
    log_prob = torch.tensor([probabilities]).log().requires_grad_()
    mask = torch.tensor([[True] * (len(probabilities) - 1) + [False]])
    old = log_prob.detach() - torch.tensor([ratio]).log()
    return TokenBatch(log_prob, old, torch.tensor([advantages]), mask, torch.tensor([entropy]))


def test_entropic_by_hand():
    # H = 0.3, e = 0.2, alpha = 0.2 + 0.01 * 5 = 0.25; two of three tokens: 0.25 * 3/2 = 0.375
    tokens = entropic_batch([0.99, 0.97, 0.5, 0.999], [2.0, -1.0, 3.0, 0.0], [1.1, 1.0, 1.0, 1.0], [0.1, 0.2, 0.6, 9.0])
    term = EntroPIC(target=0.1).decide({"integral": 5.0}, tokens)
    assert term[0].tolist() == pytest.approx([-0.375 * 2.2, -0.375, 0, 0], abs=CLOSED_FORM)
    lowest = EntroPIC(target=5.0).decide({"integral": 5.0}, tokens)  # far too low: alpha = -1
    assert lowest[0].tolist() == pytest.approx([1.5 * 2.2, 1.5, 0, 0], abs=CLOSED_FORM)
    none = entropic_batch([0.9, 0.5, 0.1], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.1, 0.1, 0.0])
    assert EntroPIC().decide({"integral": 5.0}, none).abs().sum() == 0
    assert walk(EntroPIC(target=0.1), (0.3, 0.05), "integral") == pytest.approx([0.2, 0.15], abs=CLOSED_FORM)


def test_entropic_counts_confident_positives_1_plus_alpha_and_negatives_1_minus_alpha_times():
    tokens = entropic_batch([0.99, 0.97, 0.5], [2.0, -1.0, 0.0], [1.0, 1.0, 1.0], [0.3, 0.5, 9.0])  # alpha = 0.3
    loss = -tokens.log_ratio.exp() * tokens.advantages + EntroPIC(target=0.1).decide({"integral": 0.0}, tokens)
    (gradient,) = torch.autograd.grad(loss.sum(), tokens.log_prob)
    assert gradient[0].tolist() == pytest.approx([-2 * 1.3, 1 * 0.7, 0], abs=CLOSED_FORM)


@pytest.mark.parametrize(
    ("term", "options"),
    [
        (KLPenalty, {"coefficient": 1.0, "estimator": "k4"}),
        (KLCov, {"fraction": 1.1}),
        (AEC, {"initial": 0.1}),
        (AEnt, {"dropped": 1.0}),
        (AEnt, {"low": 0.6}),
        (AEnt, {"initial": 0.0}),
        (EntroPIC, {"threshold": 0.0}),
    ],
)
def test_loss_terms_refuse_options_out_of_range(term, options):
    with pytest.raises(ValueError, match=r"\(.*=.*\) must have"):
        term(**options)
