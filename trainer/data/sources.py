"""Reading the rows of files and of data sets on the hub, as they are."""

import json
import re
from pathlib import Path
from typing import Any

FILES = (".jsonl", ".parquet", ".csv")
# owner/name, then a configuration and a split; datasets' slices, such as train[:100], are splits too.
HUB = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(/(?P<configuration>[\w.-]+))?(:(?P<split>\S+))?")


def read_source(source: str) -> list[Any]:
    """Return the rows of a file or hub data set.

    Args:
        source: a .jsonl file; with the extra `data` also a .parquet or .csv file, or a hub id as owner/name,
            owner/name:split or owner/name/configuration:split, of the split `train` where none is named.

    Raises:
        FileNotFoundError: no such file, and no such data set on the hub (or the hub is out of reach).
        ValueError: a file that cannot be read, or without rows.
        ImportError: a source that needs the extra `data`, without it.
    """
    path = Path(source)
    hub = None if path.suffix in FILES or path.exists() else HUB.fullmatch(source)
    if hub:
        rows = hub_rows(source, hub["name"], hub["configuration"], hub["split"] or "train")
    elif not path.is_file() or path.suffix not in FILES:
        got = "a file of another kind" if path.is_file() else "no such file"
        raise FileNotFoundError(
            f"read_rows({source!r}) must name a file ({', '.join(FILES)}) or a hub data set (owner/name:split); "
            f"got {got}. Check data.prompts and data.held_out."
        )
    else:
        rows = json_lines(path) if path.suffix == ".jsonl" else table_rows(path)
    if not rows:
        raise ValueError(f"read_rows({source!r}) must hold at least one prompt; got none. Check data.prompts.")
    return rows


def json_lines(path: Path) -> list[Any]:
    """Return the JSON values of a file, one a line; blank lines are passed over."""
    rows = []
    # By bytes: only a newline ends a line, and each is decoded where its number is known.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line.decode("utf-8")))
                except (json.JSONDecodeError, UnicodeDecodeError) as error:
                    raise ValueError(
                        f"json_lines({str(path)!r}) must hold one JSON object a line; got line {number}: {error}. "
                        "Mend it."
                    ) from error
    return rows


def table_rows(path: Path) -> list[Any]:
    """Return the rows of a .parquet file, or of a .csv file with the types that `datasets` finds in it."""
    datasets = import_datasets(str(path))
    try:
        return list(datasets.load_dataset(path.suffix[1:], data_files=str(path), split="train"))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"read_rows({str(path)!r}) must be a readable {path.suffix} file; got: {told(error)} Mend it."
        ) from error


def hub_rows(source: str, name: str, configuration: str | None, split: str) -> list[Any]:
    """Return the rows of a split of a hub data set."""
    datasets = import_datasets(source)
    try:
        return list(datasets.load_dataset(name, configuration, split=split))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise FileNotFoundError(
            f"read_rows({source!r}) must name a file, or a data set that the hub has, as owner/name:split or "
            f"owner/name/configuration:split; got: {told(error)} Check data.prompts and data.held_out, or the "
            "connection to the hub."
        ) from error


def import_datasets(source: str) -> Any:
    """Return the module datasets, or say how to install it."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"read_rows({source!r}) needs the package datasets. Install entrocraft[data], or give a .jsonl file."
        ) from error
    return datasets


def told(error: Exception) -> str:
    """Return what an error, or the one that it came from, says, in one sentence of a bearable length."""
    words = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return words[:300].rstrip(".") + "."
