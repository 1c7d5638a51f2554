"""The derivation: every statement is there and holds to 40 digits, errors are caught, and torch says the same."""

import re
from dataclasses import replace
from fractions import Fraction

import matplotlib.mathtext
import mpmath
import pytest
import sympy
import torch

from entropy_theory import (
    entropy_change,
    first_order_change,
    sampled_token_delta,
    second_order_change,
    token_statistics,
)
from entropy_theory.symbolic import (
    as_latex,
    as_text,
    binary,
    check_derivation,
    checked_sections,
    counterexamples,
    expectations,
    notation,
    one_step,
)
from entropy_theory.symbolic.evaluate import random_point, value
from entropy_theory.symbolic.render import tex
from entropy_theory.symbolic.steps import explicit

LENGTHS = {"E2": 10, "E3": 10, "E4": 5, "E5": 12, "E6": 5, "X1": 7, "X2": 5, "X3": 7, "X4": 14, "B": 17}
SAID = [f"{part}.{number}" for part, length in LENGTHS.items() for number in range(1, length + 1)]
GENERAL = {
    step.name: step
    for sections in (one_step.SECTIONS, expectations.SECTIONS, binary.SECTIONS)
    for steps in sections.values()
    for step in steps()
}
TIE = 1e-12  # relative, float64 against 60 digits


@pytest.fixture(scope="module")
def sections():
    return checked_sections()


@pytest.fixture(scope="module")
def derived(sections):
    return [step for steps in sections.values() for step in steps]


@pytest.fixture(scope="module")
def examples():
    return {example.name: example for example in counterexamples()}


def test_every_statement_is_there_for_any_number_of_arms_and_written_out(derived):
    names = [step.name for step in derived]
    assert [name for name in names if "[" not in name] == SAID
    assert len(set(names)) == len(names)
    for name in SAID:
        for arms in () if name.startswith("B") else (2, 3, 4):
            written_out = [other for other in names if other.startswith(f"{name} [K = {arms}")]
            assert len(written_out) == len(explicit(GENERAL[name], arms))
            assert written_out or name in ("E6.2", "X4.2", "X4.14"), "only these say nothing once written out"


def test_every_step_says_something_and_holds_to_40_digits(derived):
    for step in derived:
        assert step.left != step.right, step.name
        assert step.reason
        assert step.worst < mpmath.mpf(10) ** -40
        assert "3 points each" in step.checked_at


def test_general_steps_are_checked_at_two_three_and_four_arms(derived):
    for step in derived:
        if "[" not in step.name and not step.name.startswith("B"):
            assert {2, 3, 4} <= set(step.arms)
            assert notation.K in step.left.free_symbols | step.right.free_symbols or step.arms


@pytest.mark.parametrize("name", [name for name in SAID if name not in ("E2.4", "E2.7", "E3.10")])
def test_planted_sign_error_is_caught(name):
    step = GENERAL[name]
    wrong = replace(step, left=-step.left) if step.right == 0 else replace(step, right=-step.right)
    if step.right == 0:
        wrong = replace(step, right=notation.p[1])
    with pytest.raises(ValueError, match=rf"step='{re.escape(name)}'.*differ by"):
        check_derivation([wrong])


def test_error_in_the_39th_digit_is_caught():
    step = GENERAL["X4.12"]
    with pytest.raises(ValueError, match=r"X4\.12"):
        check_derivation([replace(step, right=step.right * (1 + sympy.Rational(1, 10**39)))])


@pytest.mark.parametrize("term", [notation.n2, notation.n3, notation.N, notation.M3])
def test_wrong_coefficient_in_the_drift_is_caught(term):
    step = GENERAL["X4.11"]
    with pytest.raises(ValueError, match=r"X4\.11"):
        check_derivation([replace(step, right=step.right + term)])


def point(arms, seed):
    """The derivation's own random point, in float64 and in 60 digits."""
    at = random_point(arms, seed)
    logits = torch.tensor([float(number) for number in at.given[notation.z]])
    return at, logits, float(at.given[notation.eta]), float(at.given[notation.A])


@pytest.mark.parametrize(("arms", "seed"), [(arms, seed) for arms in (2, 3, 4, 5) for seed in range(3)])
def test_drift_and_its_closed_form_are_those_of_torch(arms, seed):
    at, logits, rate, advantage = point(arms, seed)
    steps = sampled_token_delta(logits.expand(arms, arms), torch.arange(arms), rate * advantage)
    expected = (logits.softmax(-1) * second_order_change(logits.expand(arms, arms), steps)).sum().item()
    with mpmath.workdps(60):
        drift = float(value(notation.D, at))
    assert expected == pytest.approx(rate**2 * advantage**2 / 2 * drift, rel=TIE)


@pytest.mark.parametrize(("arms", "seed"), [(arms, seed) for arms in (2, 3, 4, 5) for seed in range(3)])
def test_first_order_is_that_of_torch(arms, seed):
    at, logits, rate, advantage = point(arms, seed)
    step = GENERAL["E4.4"]
    for token in range(arms):
        with mpmath.workdps(60):
            said = float(value(step.right, at.where(notation.k, token + 1)))
        delta = sampled_token_delta(logits, torch.tensor(token), rate * advantage)
        assert first_order_change(logits, delta).item() == pytest.approx(said, rel=1e-10, abs=1e-14)


def test_two_arm_region_is_that_of_torch():
    p = torch.linspace(0.005, 0.995, 199)[:, None]
    size = torch.cat([-torch.logspace(-1, 1.5, 40), torch.logspace(-1, 1.5, 40)])
    logits = torch.stack([p.logit().expand(-1, len(size)), torch.zeros(199, len(size))], -1)
    exact = entropy_change(
        logits, sampled_token_delta(logits, torch.zeros(199, len(size), dtype=torch.long), size.expand(199, -1))
    )
    condition = p.logit() + size * (1 - p)
    clear = (exact.abs() > 1e-12) & (condition.abs() > 1e-9)  # away from the boundary, where rounding decides
    assert clear.float().mean() > 0.99
    assert torch.equal((size.sign() * exact > 0)[clear], (condition < 0)[clear])


def in_torch(example, place=0):
    """Logits, token and step of a counterexample, and Theorem 1's weights and baseline by finite formulas of E5."""
    p = torch.tensor([float(q) for q in example.policies[place]])
    token = torch.tensor(example.tokens[place])
    delta = sampled_token_delta(p.log(), token, float(example.learning_rate * example.advantage))
    moved = p * (delta - (p * delta).sum())
    weights = -moved / moved[token]
    others = torch.arange(len(p)) != token
    return p, token, delta, moved, weights[others], (weights * p.log())[others].sum()


@pytest.mark.parametrize("name", ["C1", "C1'", "C2", "C3", "C3'", "C4", "C5"])
def test_counterexamples_to_theorem_one_in_float64(name, examples):
    example = examples[name]
    p, token, delta, _, weights, baseline = in_torch(example)
    statistics = token_statistics(p.log(), token)
    first = first_order_change(p.log(), delta).item()
    assert sum(example.policies[0]) == 1
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    gap = statistics.discriminator - statistics.mean_discriminator
    assert first == pytest.approx(-float(example.learning_rate * example.advantage) * gap.item(), rel=1e-9)
    advantage = float(example.advantage)
    holds = statistics.log_prob > baseline
    assert holds == (gap > 0) == (name == "C4")
    assert (advantage * first > 0) == (not holds)
    assert advantage * entropy_change(p.log(), delta) > 0
    for key, said in example.numbers.items():
        if key.startswith("first order"):
            assert first == pytest.approx(float(said), rel=1e-9)
    if name.startswith("C3"):
        assert weights.min() < 0
        assert 1 - baseline.exp().item() == pytest.approx(float(example.numbers["claimed probability"]), rel=1e-9)
        assert baseline > 0


def test_claimed_probability_and_true_mass_in_float64(examples):
    example = examples["C5"]
    p = torch.tensor([float(q) for q in example.policies[0]])
    statistics = token_statistics(p.log().expand(99, 99), torch.arange(99))
    obeys = statistics.discriminator >= statistics.mean_discriminator
    room = p * (1 - 2 * p + (p**2).sum())
    products = (p.log() - (statistics.discriminator - statistics.mean_discriminator) / room).exp()  # E5.12
    assert p[obeys].sum().item() == pytest.approx(0.02)
    claimed = (p * (1 - products.clamp(max=1))).sum().item()
    assert claimed == pytest.approx(float(example.numbers["claimed, mean over sampled tokens"]), rel=1e-10)
    assert claimed > 0.98


@pytest.mark.parametrize(("name", "condition"), [("C6", True), ("C7", True), ("C8", False)])
def test_counterexamples_to_theorem_two_in_float64(name, condition, examples):
    example = examples[name]
    parts = [in_torch(example, place) for place in range(2)]
    gaps = torch.stack([p.log()[token] - baseline for p, token, _, _, _, baseline in parts])
    moved = torch.stack([moved[token] for _, token, _, moved, _, _ in parts])
    first = sum(first_order_change(p.log(), delta) for p, _, delta, _, _, _ in parts)
    exact = sum(entropy_change(p.log(), delta) for p, _, delta, _, _, _ in parts)
    assert (moved > 0).all()
    assert (gaps.sum() >= -1e-12) == condition
    assert (first > 0) == (exact > 0) == condition  # A = 1: the theorem says the opposite
    assert first.item() == pytest.approx(-(moved * gaps).sum().item(), rel=1e-12)
    effective = example.numbers["effective delta p_y"]
    if name == "C7":
        assert mpmath.isnan(effective)
        assert abs(gaps.sum()) < 1e-12
    else:
        assert ((moved * gaps).sum() / gaps.sum()).item() == pytest.approx(float(effective), rel=1e-10)
        assert effective < 0


def test_smallest_overflow_is_the_smallest(examples):
    (policy,) = examples["C3"].policies
    assert policy == (Fraction(5, 7), Fraction(1, 7), Fraction(1, 7))


def test_no_weight_is_negative_where_the_condition_is_true():
    logits = 3 * torch.randn(2000, 6, generator=torch.Generator().manual_seed(0))
    for token in range(6):
        statistics = token_statistics(logits, torch.full((2000,), token))
        true = statistics.discriminator > statistics.mean_discriminator
        assert true.any()
        assert (statistics.log_prob.exp() > statistics.collision)[true].all()


def test_false_counterexample_is_refused(monkeypatch):
    monkeypatch.setattr("entropy_theory.symbolic.witness.entropy_of", lambda probabilities: mpmath.mpf(1))
    with pytest.raises(ValueError, match=r"C1.*must have A times the exact change positive"):
        counterexamples()


def test_latex_is_balanced_and_plain_text_has_no_tex(sections, derived, examples):
    latex, text = as_latex(sections, examples.values()), as_text(sections, examples.values())
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([\w*]+)\}", latex):
        open_environments.append(name) if kind == "begin" else None
        if kind == "end":
            assert open_environments.pop() == name
    assert not open_environments
    assert latex.count("{") == latex.count("}")
    assert latex.count("$") % 2 == 0
    assert latex.startswith(r"\documentclass")
    assert latex.count(r"\begin{align*}") == len(derived) + 1
    assert not re.search(r"\\(input|include|includegraphics)\b", latex)
    assert "\\" not in text
    assert "$" not in text
    for step in derived:
        assert f"\n{step.name}: " in text


def test_formulas_are_read_by_a_tex_parser(derived):
    parser = matplotlib.mathtext.MathTextParser("path")
    for step in derived:
        if "[" not in step.name:
            for side in (step.left, step.right):
                parser.parse(f"${tex(side)}$")
