"""The directory of an experiment: what was asked for, cells as they are finished, tables and the page's description.

config.yaml     experiment, format and options
cells/KEY.csv   rows of a finished cell
TABLE.csv       the experiment's tables
page.json       claim, findings, panels and versions: what `entrocraft figures build simulation` draws

Every file is written under a temporary name and renamed, so that a kill never leaves half of one. Nothing is written,
and nothing that was there before is removed, until the first cell is finished.
"""

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from simulations.experiment import Experiment, Rows
from trainer.files import new_folder, write_text

PAGE = "page.json"
CONFIG = "config.yaml"
CELLS = "cells"
SUFFIXES = {"csv": ".csv", "parquet": ".parquet"}


class Results:
    """Writes and reads the directory of one experiment.

    Args:
        path: the directory.
        experiment: what runs.
        options: its options.
        resume: go on with what is there.
        overwrite: replace what is there.
        format: of cells and tables, `csv` or `parquet` (needs pyarrow).

    Raises:
        FileExistsError: files in the directory, and neither resume nor overwrite, or no results to overwrite.
        FileNotFoundError: resume, and no results in the directory.
        ImportError: parquet without pyarrow.
        ValueError: resume and overwrite at once, resume with other options than those of the directory, or an unknown
            format.
    """

    def __init__(
        self,
        path: Path,
        experiment: Experiment,
        options: Any,
        *,
        resume: bool = False,
        overwrite: bool = False,
        format: str = "csv",
    ) -> None:
        if format not in SUFFIXES:
            raise ValueError(f"--format must be one of {list(SUFFIXES)}; got {format!r}.")
        if format == "parquet" and find_spec("pyarrow") is None:
            raise ImportError("--format parquet needs the package pyarrow. Install it, or leave --format csv.")
        if resume and overwrite:
            raise ValueError("--resume and --overwrite must not both be set; choose one.")
        self.path, self.experiment, self.suffix = path, experiment, SUFFIXES[format]
        self.config = {"experiment": experiment.name, "format": format, **plain(asdict(options))}
        self.begun = resume
        if resume:
            self.check_same(config_of(path))
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            self.check_replaceable(overwrite)

    def check_same(self, there: Mapping[str, Any] | None) -> None:
        """Refuse to resume what is not there, or results of other options."""
        if there is None:
            raise FileNotFoundError(
                f"--resume must find results in --output {self.path}; got none there. Start without --resume."
            )
        names = [name for name in {**there, **self.config} if there.get(name) != self.config.get(name)]
        if names:
            differ = ", ".join(f"{name}: {there.get(name)} there, {self.config.get(name)} given" for name in names)
            raise ValueError(
                f"--resume must have the options of {self.path / CONFIG}; got {differ}. Give the same options, or name "
                "another --output."
            )

    def check_replaceable(self, overwrite: bool) -> None:
        """Refuse a directory with files, unless they are results that are to be replaced."""
        if not overwrite:
            raise FileExistsError(
                f"--output {self.path} must be a new or empty directory; got files. Set --resume to go on with "
                "results of the same options, or --overwrite to replace them, or name another."
            )
        if config_of(self.path) is None:
            raise FileExistsError(
                f"--output {self.path} must be a directory of results to be overwritten; got other files. Remove it "
                "yourself if you are sure, or name another."
            )

    def begin(self) -> None:
        """Replace what is there by an empty directory of results."""
        config = yaml.safe_dump(self.config, sort_keys=False)
        if config_of(self.path) is None:
            with new_folder(self.path) as unfinished:
                (unfinished / CELLS).mkdir()
                write_text(unfinished / CONFIG, config)
        else:
            # What tells a directory of results from others stays throughout; the new options come last.
            stays = (self.path / CELLS, self.path / CONFIG)
            for there in [*(self.path / CELLS).iterdir(), *self.path.iterdir()]:
                if there not in stays:
                    shutil.rmtree(there) if there.is_dir() and not there.is_symlink() else there.unlink()
            write_text(self.path / CONFIG, config)
        self.begun = True

    def cell(self, key: str) -> Path:
        """Return the file of a cell."""
        return self.path / CELLS / f"{key}{self.suffix}"

    def has(self, key: str) -> bool:
        """Return whether a cell is finished."""
        return self.begun and self.cell(key).is_file()

    def save(self, key: str, rows: Rows) -> None:
        """Write the rows of a finished cell."""
        if not self.begun:
            self.begin()
        self.write(self.cell(key), pd.DataFrame(list(rows)).assign(cell=key))

    def write(self, path: Path, frame: pd.DataFrame) -> None:
        """Write a table."""
        temporary = path.with_name(f"{path.name}.new")
        if self.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)
        temporary.replace(path)

    def read(self, key: str) -> pd.DataFrame:
        """Return the rows of a finished cell; an empty field is a missing value."""
        if self.suffix == ".csv":
            return pd.read_csv(self.cell(key), keep_default_na=False, na_values=[""])
        return pd.read_parquet(self.cell(key))

    def finish(self, keys: list[str]) -> list[str]:
        """Write tables and page from the finished cells; return the findings."""
        rows = pd.concat([self.read(key) for key in keys], ignore_index=True)
        tables = self.experiment.tables(rows)
        findings = self.experiment.findings(tables)
        for name, table in tables.items():
            self.write(self.path / f"{name}{self.suffix}", table)
        page = {
            "experiment": self.experiment.name,
            "claim": self.experiment.claim,
            "findings": findings,
            "panels": [asdict(panel) for panel in self.experiment.panels],
            "tables": [f"{name}{self.suffix}" for name in tables],
            "versions": {"python": platform.python_version(), "torch": version("torch"), "numpy": version("numpy")},
        }
        write_text(self.path / PAGE, json.dumps(page, indent=2, ensure_ascii=False) + "\n")
        return findings


def config_of(path: Path) -> dict[str, Any] | None:
    """Return the configuration of a directory of results, None for any other: only such a directory is ever removed."""
    try:
        config = yaml.safe_load((path / CONFIG).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) and "experiment" in config and (path / CELLS).is_dir() else None


def plain(value: Any) -> Any:
    """Return the value with tuples as lists and paths as text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
