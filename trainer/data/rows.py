"""Rows: a source's columns as a prompt and what reward functions are given beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.data.sources import read_source
from trainer.data.template import filled, names

Row = dict[str, Any]
# What reward functions are given by the trainer itself.
RESERVED = {"prompts", "completions", "completion_ids"}


@dataclass(frozen=True)
class Layout:
    """Which of a source's columns become what.

    Args:
        prompt_column: the column that holds the prompt: text, or a conversation (a list of {role, content}).
        columns: further names for columns: the new name, then the source's column. Here and in `prompt_column`,
            outer.inner is a part of a column that holds mappings.
        template: text with names of columns in braces, from which the prompt is made; {prompt} is the prompt column.
        chat: whether a prompt may be a conversation.

    Raises:
        ValueError: a template that cannot be read, or a further name that is taken.
    """

    prompt_column: str = "prompt"
    columns: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    chat: bool = False

    def __post_init__(self) -> None:
        taken = sorted({"prompt", *RESERVED}.intersection(self.columns))
        if taken:
            raise ValueError(
                f"data.columns={dict(self.columns)} must not give the names {taken}, which the trainer gives itself. "
                "Choose others; data.prompt_column says where the prompt is."
            )
        names(self.template or "")


def read_rows(source: str, layout: Layout) -> list[Row]:
    """Return the rows of a file or hub data set: all its columns and the prompt under "prompt".

    Args:
        source: as `read_source` takes it.
        layout: which columns become what.

    Raises:
        FileNotFoundError: no such source.
        ValueError: no rows, a row without a prompt, a column that is not there, or one whose name is taken.
        ImportError: a source that needs the extra `data`.
    """
    return lay_out(read_source(source), layout, source)


def lay_out(rows: Sequence[Any], layout: Layout, source: str) -> list[Row]:
    """Return rows with their prompt under "prompt" and their columns under all their names.

    A column that only some rows have is None in the others, so that every batch has the same columns.
    """
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(
                f"read_rows({source!r}) must have text in column {layout.prompt_column!r} of every row; "
                f"row {number} is no object with columns. Write one JSON object a line."
            )
    present = list(dict.fromkeys(name for row in rows for name in row))
    check_columns(rows, present, layout, source)
    laid_out = []
    for number, row in enumerate(rows, 1):
        columns = {name: row.get(name) for name in present}
        columns |= {new: column(row, old) for new, old in layout.columns.items()}
        laid_out.append(columns | {"prompt": prompt(row, columns, layout, f"read_rows({source!r})", number)})
    return laid_out


def column(row: Row, name: str) -> Any:
    """Return a column of a row, outer.inner being a part of one that holds mappings; None where there is none.

    >>> column({"reward_model": {"ground_truth": "18"}}, "reward_model.ground_truth")
    '18'
    """
    outer, dot, inner = name.partition(".")
    if name in row or not dot:
        return row.get(name)
    return column(row[outer], inner) if isinstance(row.get(outer), dict) else None


def check_columns(rows: Sequence[Row], present: Iterable[str], layout: Layout, source: str) -> None:
    """Refuse columns that take a name of the trainer's, and names of columns that are not there."""
    known = sorted(present)
    taken = sorted(RESERVED.intersection(known))
    if taken:
        raise ValueError(
            f"read_rows({source!r}) must not have columns {taken}, which reward functions get from the trainer. "
            "Rename them."
        )
    named = set(layout.columns.values()).difference(known)
    absent = sorted(name for name in named if all(column(row, name) is None for row in rows))
    if absent:
        raise ValueError(
            f"read_rows({source!r}) must have the columns of data.columns; got no {absent} in {known}. Name those that "
            "are there; a held-out set has columns of its own as {source: FILE, columns: ...}."
        )
    if layout.template is None:
        return
    possible = sorted({"prompt", *known, *layout.columns})
    unknown = sorted(names(layout.template).difference(possible))
    if unknown:
        raise ValueError(
            f"data.template={layout.template!r} must name columns of {source!r} in braces, of {possible}; got "
            f"{unknown}. Write {{{{ and }}}} for braces that are meant as such."
        )


def prompt(row: Row, columns: Row, layout: Layout, where: str, number: int) -> Any:
    """Return the prompt of a row: text, or a conversation."""
    needed = {"prompt"} if layout.template is None else names(layout.template)
    value = column(row, layout.prompt_column)
    if "prompt" in needed:
        check_prompt(value, row, layout, where, number)
    if layout.template is None:
        return value
    values = columns | {"prompt": value}
    empty = sorted(name for name in needed if values[name] is None)
    if empty:
        raise ValueError(f"{where} must have values for data.template; row {number} has none in {empty}. Mend it.")
    return filled(layout.template, values)


def check_prompt(value: Any, row: Row, layout: Layout, where: str, number: int) -> None:
    """Refuse a prompt that is neither text nor a conversation, or a conversation where only text can be used."""
    if isinstance(value, str):
        return
    if not is_conversation(value):
        raise ValueError(
            f"{where} must have text, or a conversation (a list of {{role, content}}, both text), in column "
            f"{layout.prompt_column!r} of every row; row {number} has none, its columns are {sorted(row)}. "
            "Set data.prompt_column."
        )
    if layout.template is not None:
        raise ValueError(
            f"{where} must have text in column {layout.prompt_column!r} for data.template; row {number} has a "
            "conversation. Leave data.template null."
        )
    if not layout.chat:
        raise ValueError(
            f"{where} must have text in column {layout.prompt_column!r} without data.chat; row {number} has a "
            "conversation. Set data.chat: true, with a model whose tokenizer has a chat template."
        )


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of messages, each with a role and content that are text."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in value
        )
    )
