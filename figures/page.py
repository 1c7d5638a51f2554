"""The page of an experiment: what `entrocraft simulate` left in a directory, read whole, and its findings as text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

KINDS = ("line", "bar", "points", "map")
LARGEST = 60  # rows of a table that is printed; larger ones are named


@dataclass(frozen=True)
class Panel:
    """A picture of the page, as `page.json` has it: column names of one table, "" for none.

    Args:
        title: what it shows.
        table: a table's name.
        x: horizontal axis; categories of a bar.
        y: vertical axis; length of a bar, rows of a map.
        kind: of `KINDS`.
        by: told apart by colour.
        value: colour of a map.
        low: lower end of an interval about y.
        high: its upper end.
        x_label: with the unit.
        y_label: with the unit.
        value_label: of a map's colours, with the unit.
        x_log: logarithmic axis.
        y_log: logarithmic axis.
        reference: drawn as thin lines.
        zero: draw a line at 0.
    """

    title: str
    table: str
    x: str
    y: str
    kind: str = "line"
    by: str = ""
    value: str = ""
    low: str = ""
    high: str = ""
    x_label: str = ""
    y_label: str = ""
    value_label: str = ""
    x_log: bool = False
    y_log: bool = False
    reference: Sequence[str] = ()
    zero: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns that it draws."""
        named = [self.x, self.y, self.by, self.value, self.low, self.high, *self.reference]
        return [name for name in named if name]


@dataclass(frozen=True)
class Page:
    """A finished experiment.

    Args:
        path: its directory.
        experiment: its name.
        claim: what was tested.
        findings: what the tables say.
        panels: what is drawn.
        tables: by name.
        files: the tables' files, by name.
    """

    path: Path
    experiment: str
    claim: str
    findings: Sequence[str]
    panels: Sequence[Panel]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def load_one_page(paths: Sequence[Path]) -> Page:
    """Return the page of the only directory given.

    Raises:
        FileNotFoundError: no directory of results, an unfinished one, or a table that is not there.
        ValueError: not exactly one directory, or a page or table that cannot be read or lacks what a panel draws.
    """
    if len(paths) != 1:
        raise ValueError(
            f"figures build simulation(paths) must get one directory of `entrocraft simulate`; got {len(paths)}. "
            "Draw one after the other."
        )
    return load_page(paths[0])


def load_page(path: Path) -> Page:
    """Return the page of a directory; raises as `load_one_page` does."""
    file = path / "page.json"
    if not file.is_file():
        raise FileNotFoundError(unfinished(path))
    again = f"Write it again: {command_of(path)} --overwrite"
    try:
        found = json.loads(file.read_text())
        names = {item.name for item in fields(Panel)}
        panels = [Panel(**{key: value for key, value in panel.items() if key in names}) for panel in found["panels"]]
        page = Page(path, found["experiment"], found["claim"], list(found["findings"]), panels)
        files = {Path(name).stem: path / name for name in found["tables"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"load_page must read the page of an experiment; got {file}: {type(error).__name__}: {error}. {again}"
        ) from error
    tables = {name: read_table(table, again) for name, table in files.items()}
    for panel in panels:
        check_panel(panel, tables, files, file)
    return Page(path, page.experiment, page.claim, page.findings, panels, tables, files)


def unfinished(path: Path) -> str:
    """Return what is wrong with a directory without a page."""
    where = f"load_page({str(path)!r}) must name a directory of a finished `entrocraft simulate`"
    if (path / "config.yaml").is_file() and (path / "cells").is_dir():
        return f"{where}; got one without page.json. Finish it with the same options: {command_of(path)} --resume"
    return (
        f"{where}; got none with page.json. Check the path, or make one: entrocraft simulate EXPERIMENT --output {path}"
    )


def command_of(path: Path) -> str:
    """Return the command that makes a directory's results, without its options."""
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        name = config["experiment"]
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        name = "EXPERIMENT"
    return f"entrocraft simulate {name} --output {path}"


def read_table(file: Path, again: str) -> pd.DataFrame:
    """Return a table; an empty field is a missing value, and nothing else is.

    Raises:
        FileNotFoundError: not there.
        ValueError: not what its name says.
    """
    if not file.is_file():
        raise FileNotFoundError(f"load_page must find every table of page.json; got none at {file}. {again}")
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        return pd.read_csv(file, keep_default_na=False, na_values=[""])
    except (ValueError, OSError) as error:
        raise ValueError(f"load_page must read {file.suffix[1:]}; got {file}: {error}. {again}") from error


def check_panel(panel: Panel, tables: Mapping[str, pd.DataFrame], files: Mapping[str, Path], file: Path) -> None:
    """Refuse a panel that cannot be drawn of these tables."""
    where = f"the panel {panel.title!r} of {file}"
    if panel.kind not in KINDS:
        raise ValueError(f"{where} must be one of {list(KINDS)}; got {panel.kind!r}.")
    if panel.table not in tables:
        raise ValueError(f"{where} must draw one of the tables {sorted(tables)}; got {panel.table!r}.")
    missing = [name for name in panel.columns if name not in tables[panel.table]]
    if missing:
        raise ValueError(
            f"{where} must draw columns of {files[panel.table]}; got {missing[0]!r}, which is not one of "
            f"{list(tables[panel.table])}."
        )
    if panel.kind == "map" and not panel.value:
        raise ValueError(f"{where} must have a `value` column, as maps do; got none.")
    if panel.kind == "map" and tables[panel.table].duplicated([panel.x, panel.y]).any():
        raise ValueError(f"{where} must have one row for each {panel.x} and {panel.y}; got several for one.")


def cell(value: Any) -> str:
    """Return a table's value as text: four digits of a number, nothing for a missing one.

    >>> cell(0.123456), cell(3), cell(float("nan")), cell(True)
    ('0.1235', '3', '', 'True')
    """
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if value is None else str(value)


def as_words(table: pd.DataFrame) -> list[list[str]]:
    """Return a table's rows as text."""
    return [[cell(value) for value in row] for row in table.astype(object).itertuples(index=False, name=None)]


def page_markdown(page: Page, picture: str) -> str:
    """Return the page as Markdown: claim, findings, picture and the small tables; large ones are named.

    Args:
        page: the page.
        picture: the picture's file name.
    """
    parts = [f"# {page.experiment}", page.claim, "\n".join(f"- {finding}" for finding in page.findings)]
    parts.append(f"![{page.experiment}]({picture})")
    for name, table in page.tables.items():
        parts.append(f"## {name}")
        if len(table) > LARGEST:
            parts.append(f"{len(table)} rows: `{page.files[name]}`")
            continue
        rows = [[str(column) for column in table.columns], *as_words(table)]
        lines = ["| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in row) + " |" for row in rows]
        parts.append("\n".join([lines[0], "|" + "---|" * len(table.columns), *lines[1:]]))
    return "\n\n".join(part for part in parts if part) + "\n"


def page_text(page: Page) -> str:
    """Return the page for the terminal: claim, findings, and what tables there are."""
    lines = [page.claim, "", *(f"- {finding}" for finding in page.findings), ""]
    lines += [f"table: {page.files[name]}, {len(table)} rows" for name, table in page.tables.items()]
    return "\n".join(lines) + "\n"
