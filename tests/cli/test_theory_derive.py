"""`entrocraft theory derive` writes the checked derivation, or says which step fails and writes nothing."""

from dataclasses import replace

import pytest

import entrocraft
from entropy_theory.symbolic import one_step

REFERENCES = ["E2.6", "E3.8", "E4.4", "E5.12", "E6.4", "X1.3", "X2.3", "X3.4", "X4.12", "B.14", "C1", "C6"]


def test_it_writes_text_and_latex(tmp_path, capsys):
    assert entrocraft.main(["theory", "derive", "--output", str(tmp_path / "new" / "theory")]) == 0
    text = (tmp_path / "new" / "theory" / "derivation.txt").read_text()
    latex = (tmp_path / "new" / "theory" / "derivation.tex").read_text()
    for reference in REFERENCES:
        assert reference in text
        assert reference in latex
    assert "worst" in text
    assert latex.rstrip().endswith(r"\end{document}")
    printed = capsys.readouterr().out
    assert "X4. Sampling drift" in printed
    assert "derivation.tex" in printed


def test_a_step_that_fails_is_named_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    first, *rest = one_step.gradient()
    wrong = (replace(first, right=-first.right), *rest)
    monkeypatch.setitem(one_step.SECTIONS, "E2. Gradient", lambda: wrong)
    assert entrocraft.main(["theory", "derive", "--output", str(tmp_path / "theory")]) == 1
    assert "E2.1" in capsys.readouterr().err
    assert not (tmp_path / "theory").exists()


def test_help_names_the_command(capsys):
    assert entrocraft.main(["--help"]) == 0
    assert "theory" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["derive", "--no-such-option", "1"]])
def test_wrong_calls_are_refused(arguments):
    with pytest.raises(SystemExit) as refused:
        entrocraft.main(["theory", *arguments])
    assert refused.value.code == 2
