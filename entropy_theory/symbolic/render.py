"""The derivation as plain text and as a LaTeX article: every step with its reason, where it was checked, how well."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import groupby

import mpmath
from mpmath import mpf
from sympy import Expr
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from entropy_theory.symbolic import notation
from entropy_theory.symbolic.binary import REGION
from entropy_theory.symbolic.counterexamples import HOLDS
from entropy_theory.symbolic.steps import DIGITS, Step
from entropy_theory.symbolic.witness import Counterexample

TITLE = "The per-step entropy change of softmax policies, step by step"
LINE = 90  # characters of plain text that fit on one line of a formula
TEX_NAMES = {
    notation.moved_p.label: r"\delta p",
    notation.discriminator.label: "S",
    notation.moved_half: "p'",
}
PLAIN_WORDS = {r"\le": "<=", r"\ge": ">=", r"\ne": "!=", r"\infty": "infinity", r"\bar g": "gbar"}
OPENING = (
    "One context, K arms, logits $z$, policy $p$, entropy $H$ in nats. $v$ is any step on the logits; $k$ the "
    r"sampled token, $A$ its advantage, $\eta$ the learning rate; $a_i$ an advantage, $r_i$ a reward (0 or 1) of "
    r"each arm; $G$ samples a group; $J_i$ the derivative of $z_i$ in a parameter. $\Delta H_1$ and $\Delta H_2$ "
    r"of a step $\delta z$ are the coefficients of $t$ and $t^2$ in the Taylor series of $H(z + t \delta z)$; "
    r"$\Delta H$ is the exact change.",
    "Both sides of each equality are evaluated at random rational logits, directions and advantages, with 60 "
    "digits, at the stated K and every setting of its indices, and must agree to 40 digits; derivatives are taken "
    "of the explicit function of the logits. 'worst' is the largest relative discrepancy found (absolute where a "
    "side is 0). Steps with K as a symbol come first, then the same written out for K = 2, 3, 4, with k = 1; "
    "other settings follow by symmetry.",
)


class PlainPrinter(StrPrinter):
    """Prints p[i] as p_i, sums as sum_i{...} and a Kronecker delta as [i = j]."""

    printmethod = "_plain"

    def _print_Indexed(self, expr: Expr) -> str:  # noqa: N802 (SymPy's name)
        arms = ",".join(map(self._print, expr.indices))
        return f"{self._print(expr.base.label)}_{arms if len(expr.indices) == 1 else f'{{{arms}}}'}"

    def _print_Sum(self, expr: Expr) -> str:  # noqa: N802 (SymPy's name)
        names = ",".join(self._print(limits[0]) for limits in expr.limits)
        return f"sum_{names}{{{self._print(expr.function)}}}"

    def _print_KroneckerDelta(self, expr: Expr) -> str:  # noqa: N802 (SymPy's name)
        return f"[{' = '.join(map(self._print, expr.args))}]"


def plain(expression: Expr) -> str:
    """Return an expression as plain text."""
    return PlainPrinter().doprint(expression).replace("**", "^").replace("p_new", "p'")


def tex(expression: Expr) -> str:
    """Return an expression as LaTeX, without the signs of a formula around it."""
    return LatexPrinter({"symbol_names": TEX_NAMES}).doprint(expression)


def definitions() -> list[tuple[Expr, Expr]]:
    """Return each defined quantity and what it stands for."""
    rows = []
    for name, template in notation.DEFINITIONS.items():
        arms = (notation.i, notation.k)[: template.__code__.co_argcount - 1]
        rows.append((name[arms] if arms else name, template(notation.m, *arms)))
    return rows


def plain_words(words: str) -> str:
    """Return prose without the signs of TeX."""
    for sign, word in PLAIN_WORDS.items():
        words = words.replace(sign, word)
    return words.translate(str.maketrans("", "", "$\\{}"))


def paragraph(words: str) -> str:
    """Return a paragraph of prose as lines of plain text, and an empty line."""
    return textwrap.fill(plain_words(words), 110) + "\n"


def tex_words(words: str) -> str:
    """Return prose with TeX's special characters escaped outside its formulas."""
    parts = words.split("$")
    for place in range(0, len(parts), 2):
        for character in "%_&#":
            parts[place] = parts[place].replace(character, "\\" + character)
        parts[place] = parts[place].replace("^", r"\^{}")
    return "$".join(parts)


def digits(number: mpf) -> str:
    """Return a number to 40 digits."""
    return "undefined" if mpmath.isnan(number) else str(mpmath.nstr(number, DIGITS))


def policy_text(policy: Sequence[Fraction]) -> str:
    """Return the probabilities, runs of equal ones counted."""
    runs = [(value, len(list(run))) for value, run in groupby(policy)]
    return ", ".join(f"{value}" if count == 1 else f"{value} ({count} times)" for value, count in runs)


def verdict(step: Step) -> str:
    """Return where a step was checked and its worst discrepancy."""
    return f"worst {mpmath.nstr(step.worst, 2)}; {step.checked_at}"


def facts(example: Counterexample) -> list[tuple[str, str]]:
    """Return what a counterexample consists of, as names and values."""
    rows = [
        (
            f"p at context {place}, sampled token",
            f"{policy_text(policy)}; the one with p = {policy[token]}, number {token + 1}",
        )
        for place, (policy, token) in enumerate(zip(example.policies, example.tokens, strict=True), start=1)
    ]
    rows.append(("A, learning rate", f"{example.advantage}, {example.learning_rate}"))
    return rows + [(name, digits(number)) for name, number in example.numbers.items()]


def as_text(sections: Mapping[str, Iterable[Step]], examples: Iterable[Counterexample]) -> str:
    """Return the derivation as plain text."""
    lines = [
        TITLE,
        "=" * len(TITLE),
        "",
        *map(paragraph, OPENING),
        "Definitions",
        "-----------",
    ]
    lines += [f"{plain(name)} = {plain(meaning)}" for name, meaning in definitions()]
    for title, steps in sections.items():
        lines += ["", title, "-" * len(title)]
        for step in steps:
            lines += [f"{step.name}: {plain(step.left)} = {plain(step.right)}"]
            lines += [f"    {plain_words(step.reason)}. {verdict(step)}"]
    for title, paragraphs in (("The region where A Delta H > 0, two arms", REGION), ("What does hold", HOLDS)):
        lines += ["", title, "-" * len(title), *map(paragraph, paragraphs)]
    lines += ["What is not implied", "-------------------"]
    for example in examples:
        lines += ["", f"{example.name}. Claim: {plain_words(example.claim)}.", paragraph(example.shows).rstrip()]
        lines += [f"    {plain_words(name)}: {number}" for name, number in facts(example)]
    return "\n".join(lines) + "\n"


def tex_lines(expression: Expr) -> list[str]:
    """Return an expression as lines of LaTeX, broken between the terms of its outermost sum."""
    lines, room = [""], LINE
    for place, term in enumerate(expression.as_ordered_terms()):
        printed, size = tex(term), len(plain(term))
        if size > room and lines[-1]:
            lines.append("")
            room = LINE
        plus = "" if place == 0 or printed.startswith("-") else "+ "
        lines[-1] += f"{plus}{printed} "
        room -= size
    return lines


def tex_step(step: Step) -> str:
    """Return one step as LaTeX: its name, its reason, the equality and its check."""
    left, right = tex_lines(step.left), tex_lines(step.right)
    short = len(left) == len(right) == 1 and len(plain(step.left)) + len(plain(step.right)) <= LINE
    rows = [f"{left[0]}= {right[0]}"] if short else [*left, f"= {right[0]}", *(rf"\quad {line}" for line in right[1:])]
    body = " \\\\\n".join(f"& {row}" for row in rows)
    head = (
        rf"\paragraph{{{tex_words(step.name)}}} {tex_words(step.reason)}. {{\footnotesize {tex_words(verdict(step))}}}"
    )
    return f"{head}\n\\begin{{align*}}\n{body}\n\\end{{align*}}"


def tex_example(example: Counterexample) -> str:
    """Return one counterexample as LaTeX."""
    rows = "\n".join(rf"\item {tex_words(name)}: {tex_words(number)}" for name, number in facts(example))
    head = rf"\paragraph{{{example.name}}} Claim: {tex_words(example.claim)}. {tex_words(example.shows)}"
    return f"{head}\n\\begin{{itemize}}\n{rows}\n\\end{{itemize}}"


def as_latex(sections: Mapping[str, Iterable[Step]], examples: Iterable[Counterexample]) -> str:
    """Return the derivation as a LaTeX article that needs amsmath and no other file."""
    lines = [
        r"\documentclass[10pt]{article}",
        r"\usepackage{amsmath}",
        r"\allowdisplaybreaks",
        r"\setlength{\parindent}{0pt}",
    ]
    lines += [r"\setlength{\oddsidemargin}{-1cm}", r"\setlength{\textwidth}{18cm}", r"\emergencystretch=3em"]
    lines += [rf"\title{{{TITLE}}}", r"\date{}", r"\begin{document}", r"\maketitle"]
    lines += [tex_words(words) + "\n" for words in OPENING]
    lines += [r"\section*{Definitions}", r"\begin{align*}"]
    lines += [" \\\\\n".join(f"{tex(name)} &= {tex(meaning)}" for name, meaning in definitions()), r"\end{align*}"]
    for title, steps in sections.items():
        lines += [rf"\section*{{{tex_words(title)}}}", *map(tex_step, steps)]
    lines += [r"\section*{The region where $A \Delta H > 0$, two arms}", *(tex_words(words) + "\n" for words in REGION)]
    lines += [r"\section*{What does hold}", *(tex_words(words) + "\n" for words in HOLDS)]
    lines += [r"\section*{What is not implied}", *map(tex_example, examples), r"\end{document}"]
    return "\n".join(lines) + "\n"
