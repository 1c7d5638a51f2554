"""`entrocraft theory check`: one line a statement, exit code 1 and the name of what fails."""

import re
from dataclasses import replace

import pytest

import entrocraft
from entropy_theory.identities import expectations, one_step

LINE = re.compile(
    r"^(\S+( \d)?)\s+(?P<says>.*?\S)\s+(?P<worst>\S+e[+-]\d+)\s+(?P<tolerance>\S+e[+-]\d+)\s+(?P<slope>\d\.\d+)?\s*ok$"
)


def test_every_statement_has_a_line(capsys):
    assert entrocraft.main(["theory", "check", "--seed", "11"]) == 0
    first, _, *lines = capsys.readouterr().out.strip().splitlines()
    assert "seed 11" in first
    assert len(lines) > 40
    found = [LINE.match(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    slopes = [match["slope"] for match in found if match["slope"]]
    assert len(slopes) == 9


def test_without_a_seed_inputs_are_fresh(capsys, monkeypatch):
    monkeypatch.setattr("entropy_theory.identities.PARTS", ())
    seeds = set()
    for _ in range(3):
        assert entrocraft.main(["theory", "check"]) == 0
        seeds.add(capsys.readouterr().out.split(",")[0])
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("module", "name"),
    [(one_step, "first_order_change"), (expectations, "drift_coefficient"), (one_step, "entropy_bonus_change")],
)
def test_a_planted_sign_error_fails(module, name, monkeypatch, capsys):
    monkeypatch.setattr("entropy_theory.identities.cases.SHAPES", [(3, 1.0)])
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments, **further: -right(*arguments, **further))
    assert entrocraft.main(["theory", "check", "--seed", "1"]) == 1
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert re.search(r"failed: .*Repeat with --seed 1", captured.err)


def test_an_error_that_is_no_number_fails(monkeypatch, capsys):
    first = one_step.EQUALITIES[0]
    nothing = replace(first, error=lambda case: first.error(case) * float("nan"))
    monkeypatch.setattr(one_step, "EQUALITIES", (nothing,))
    monkeypatch.setattr("entropy_theory.identities.cases.SHAPES", [(3, 1.0)])
    assert entrocraft.main(["theory", "check", "--seed", "1"]) == 1
    assert "E1" in capsys.readouterr().err


def test_an_unknown_device_is_refused(capsys):
    assert entrocraft.main(["theory", "check", "--device", "abacus"]) == 1
    message = capsys.readouterr().err
    assert "abacus" in message
    assert "--device cpu" in message
