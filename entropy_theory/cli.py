"""The command `entrocraft theory`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser


def derive_parser() -> ArgumentParser:
    """Return the parser of `entrocraft theory derive`."""
    parser = ArgumentParser(description="Derive the formulas step by step, check each step, and write text and LaTeX.")
    parser.add_argument("--output", type=Path, default=Path("runs/theory"), help="where derivation.txt and .tex go")
    return parser


def derive(output: Path) -> int:
    """Write the derivation, each step checked to 40 digits, into `output/derivation.txt` and `output/derivation.tex`.

    Raises:
        ValueError: a step or a counterexample fails its check; nothing is written.
    """
    from entropy_theory import symbolic

    sections, examples = symbolic.checked_sections(), symbolic.counterexamples()
    output.mkdir(parents=True, exist_ok=True)
    (output / "derivation.txt").write_text(symbolic.as_text(sections, examples))
    (output / "derivation.tex").write_text(symbolic.as_latex(sections, examples))
    for title, steps in sections.items():
        print(f"{title:38} {len(steps):3} steps, worst discrepancy {float(max(step.worst for step in steps)):.1e}")
    print(f"counterexamples verified: {', '.join(example.name for example in examples)}")
    print(f"derivation: {output / 'derivation.txt'}, {output / 'derivation.tex'}")
    return 0


# What each action is, its parser, and what it does with the parsed options.
ACTIONS: dict[str, tuple[str, Callable[[], ArgumentParser], Callable[..., int]]] = {
    "derive": ("write the derivation, step by step, every step checked", derive_parser, derive),
}


def theory_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft theory ACTION`."""
    parser = ArgumentParser(prog="entrocraft theory", description="Derive, check and audit the theory.")
    actions = parser.add_subcommands(dest="action")
    for name, (text, options, _) in ACTIONS.items():
        actions.add_subcommand(name, options(), help=text)
    chosen: Any = parser.parse_args(list(arguments))
    _, _, act = ACTIONS[chosen.action]
    return act(**chosen[chosen.action].as_dict())
