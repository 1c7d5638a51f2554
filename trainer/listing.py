"""The command `entrocraft methods`: the table of methods and recipes, as text, Markdown or one row in full."""

import inspect
import json
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentParser

from trainer.methods.lookup import nearest
from trainer.methods.recipes import RECIPES, training_settings
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
    if chosen.stage is not None and chosen.stage not in STAGES:
        raise ValueError(f"--stage {chosen.stage} must be one of {list(STAGES)}. {nearest(chosen.stage, STAGES)}")
    stages = STAGES if chosen.stage is None else (chosen.stage,)
    if chosen.name is not None:
        print(one(chosen.name, stages))
        return 0
    for stage in stages:
        rows = [method for method in METHODS if method.stage == stage]
        print(markdown(stage, rows) if chosen.markdown else text(stage, rows))
    if chosen.stage is None:
        print(rest(chosen.markdown))
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
    header = ("name", "what it does", "options", "state", "source", "ours")
    cells = [(f"`{m.name}`", m.summary, options_of(m), ", ".join(m.state), m.source, m.ours) for m in rows]
    return "\n".join([f"**{stage}**", "", *table(header, cells), ""])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table.

    >>> table(("a", "b"), [("x", "y")])
    ['| a | b |', '|---|---|', '| x | y |']
    """
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(row)} |" for row in escaped)]


def rest(as_markdown: bool) -> str:
    """Return the recipes, and what is not implemented."""
    if as_markdown:
        recipes = [(f"`{name}`", f"`{settings_of(name)}`", RECIPES[name].source) for name in RECIPES]
        absent = [(f"`{name}`", why) for name, why in MISSING.items()]
        return "\n".join(
            [
                *("**recipes**, for `--config NAME`", "", *table(("name", "settings", "source"), recipes), ""),
                *("**not implemented**", "", *table(("name", "why"), absent), ""),
            ]
        )
    lines = ["recipes, for --config NAME"]
    lines += [f"  {name:20} {settings_of(name)}\n  {'':20} source: {RECIPES[name].source}" for name in RECIPES]
    return "\n".join([*lines, "", "not implemented", *(f"  {name:20} {why}" for name, why in MISSING.items())])


def settings_of(name: str) -> str:
    """Return what a recipe sets as text, `{}` for the defaults."""
    settings = training_settings(name)
    others = {
        f"{part}.{key}": value for part in settings if part != "algorithm" for key, value in settings[part].items()
    }
    return json.dumps({**settings["algorithm"], **others})


def one(name: str, stages: Sequence[str] = STAGES) -> str:
    """Return the full description of a method, in each of the stages that has one of the name, or of a recipe.

    Raises:
        ValueError: neither a method nor a recipe.
    """
    found = [method for method in METHODS if method.name == name and method.stage in stages]
    parts = [f"{text(method.stage, [method])}\n{inspect.getdoc(method.object)}\n" for method in found]
    every_stage = len(stages) == len(STAGES)
    if name in RECIPES and every_stage:
        parts.append(f"recipe\n  {name:20} {settings_of(name)}\n  {'':20} source: {RECIPES[name].source}")
    if name in MISSING:
        parts.append(f"{name} is not implemented: {MISSING[name]}")
    if not parts:
        where = "" if every_stage else f" of {stages[0]}"
        known = [method.name for method in METHODS if method.stage in stages]
        known += [*RECIPES, *MISSING] if every_stage else []
        raise ValueError(
            f"methods {name} must name a method{where or ' or recipe'}. {nearest(name, known)}"
            "`entrocraft methods` lists all."
        )
    return "\n".join(parts)
