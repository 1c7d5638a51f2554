"""The command `entrocraft methods`: the table of methods and recipes, as text, Markdown or one row in full."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from trainer.methods.lookup import nearest
from trainer.methods.recipes import RECIPES
from trainer.methods.table import METHODS, MISSING, STAGES, Method


def methods_parser() -> ArgumentParser:
    """Return the parser of `entrocraft methods`."""
    parser = ArgumentParser(
        prog="entrocraft methods",
        description="List every method: name, stage, options with their authors' defaults, state, source, and what is "
        "our own choice.",
    )
    parser.add_argument("name", nargs="?", help="show this method or recipe alone, with its documentation")
    parser.add_argument("--stage", help=f"only this stage, of {list(STAGES)}")
    parser.add_argument("--markdown", type=bool, default=False, help="print Markdown tables")
    return parser


def methods_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft methods`."""
    chosen = methods_parser().parse_args(arguments)
    if chosen.name is not None:
        print(one(chosen.name))
        return 0
    if chosen.stage is not None and chosen.stage not in STAGES:
        raise ValueError(f"--stage {chosen.stage} must be one of {list(STAGES)}. {nearest(chosen.stage, STAGES)}")
    for stage in STAGES if chosen.stage is None else (chosen.stage,):
        rows = [method for method in METHODS if method.stage == stage]
        print(markdown(stage, rows) if chosen.markdown else text(stage, rows))
    if chosen.stage is None:
        print(missing(chosen.markdown))
    return 0


def options_of(method: Method) -> str:
    """Return a method's hyper-parameters and defaults as text."""
    shown = (name if default is ... else f"{name}={plain(default)}" for name, default in method.options.items())
    return ", ".join(shown) or "-"


def plain(value: Any) -> str:
    """Return a default as a configuration writes it."""
    return json.dumps(value, default=str)


def text(stage: str, rows: Sequence[Method]) -> str:
    """Return a stage's methods, a few lines each."""
    lines = [f"{stage}"]
    for method in rows:
        lines.append(f"  {method.name:20} {method.summary}")
        lines.append(f"  {'':20} options: {options_of(method)}; state: {', '.join(method.state) or '-'}")
        lines.append(f"  {'':20} source: {method.source}")
        lines += [f"  {'':20} ours: {method.ours}"] if method.ours else []
    return "\n".join([*lines, ""])


def markdown(stage: str, rows: Sequence[Method]) -> str:
    """Return a stage's methods as a Markdown table."""
    lines = [
        f"**{stage}**",
        "",
        "| name | what it does | options | state | source | ours |",
        "|---|---|---|---|---|---|",
    ]
    for method in rows:
        state = ", ".join(method.state)
        cells = (f"`{method.name}`", method.summary, options_of(method), state, method.source, method.ours)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def missing(as_markdown: bool) -> str:
    """Return the recipes, and what is not implemented."""
    mark = "`" if as_markdown else ""
    lines = ["recipes, for --config and `entrocraft simulate`: " + ", ".join(f"{mark}{name}{mark}" for name in RECIPES)]
    lines += ["", "not implemented", *(f"- {mark}{name}{mark}: {why}" for name, why in MISSING.items())]
    return "\n".join(lines)


def one(name: str) -> str:
    """Return a method's or recipe's full description.

    Raises:
        ValueError: neither a method nor a recipe.
    """
    found = [method for method in METHODS if method.name == name]
    parts = [f"{text(method.stage, [method])}\n{inspect.getdoc(method.object)}\n" for method in found]
    if name in RECIPES:
        recipe = RECIPES[name]
        parts.append(f"recipe {name}: {json.dumps(dict(recipe.settings))}; reward: {recipe.reward}; {recipe.source}")
    if name in MISSING:
        parts.append(f"{name} is not implemented: {MISSING[name]}")
    if not parts:
        known = [*(method.name for method in METHODS), *RECIPES, *MISSING]
        raise ValueError(f"entrocraft methods {name} must name a method or recipe. {nearest(name, known)}")
    return "\n".join(parts)
