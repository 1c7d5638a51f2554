"""Prompts: which rows a step trains on and which are held out, each a pure function of (seed, step)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from trainer.config import TrainConfig
from trainer.methods.lookup import import_object, instantiate, nearest
from trainer.model import Policy
from trainer.streams import numpy_stream, python_stream
from trainer.tasks import TASKS

Row = dict[str, Any]
# Draws for each held-out prompt that is wanted, before a task is taken to have no more.
DRAWS = 100
RESERVED = {"prompts", "completions", "completion_ids"}


@runtime_checkable
class PromptSource(Protocol):
    """Where a run's prompts come from; a row holds the prompt's text under "prompt", and columns for the reward."""

    def train_rows(self, step: int, count: int) -> list[Row]:
        """Return the rows of a step."""

    @property
    def held_out_sets(self) -> tuple[str, ...]:
        """The names of the sets of prompts for evaluation, in the order of the configuration."""

    def held_out_rows(self, name: str, count: int) -> list[Row]:
        """Return up to `count` rows of a held-out set, the same ones at every call."""

    def rows_to_check(self) -> list[Row]:
        """Return every row that is known beforehand, so that a bad one stops a run before it starts."""

    def solution(self, row: Row, completion: str) -> str | None:
        """Return the canonical form of a right completion, None where nothing is known but its text."""


@dataclass(frozen=True)
class TaskPrompts:
    """Prompts drawn by a task, without limit.

    Args:
        task: the task.
        seed: the run's root seed.
        split: the split for evaluation.
        held_out_seed: root seed of the held-out prompts.
    """

    task: Any
    seed: int
    split: str
    held_out_seed: int

    def train_rows(self, step: int, count: int) -> list[Row]:
        """Return `count` new training prompts."""
        generator = python_stream(self.seed, "prompts", step)
        return [self.task.row("train", generator=generator) for _ in range(count)]

    @property
    def held_out_sets(self) -> tuple[str, ...]:
        """The split for evaluation."""
        return (self.split,)

    def held_out_rows(self, name: str, count: int) -> list[Row]:
        """Return `count` different prompts of the split `name`, fewer if the task has no more."""
        generator = python_stream(self.held_out_seed, "held out", name)
        rows: dict[str, Row] = {}
        for _ in range(DRAWS * count):
            row = self.task.row(name, generator=generator)
            rows.setdefault(row["prompt"], row)
            if len(rows) == count:
                break
        return list(rows.values())

    def rows_to_check(self) -> list[Row]:
        """Return one row of each kind: a task's prompts are alike."""
        return [*self.train_rows(0, 1), *self.held_out_rows(self.split, 1)]

    def solution(self, row: Row, completion: str) -> str | None:
        """Return the task's canonical form of a right answer."""
        return self.task.solution(row, completion)


@dataclass(frozen=True)
class FilePrompts:
    """Prompts from a file, in a new random order each pass.

    Args:
        rows: training rows.
        held_out: evaluation rows of each set, by its name.
        seed: the run's root seed.
    """

    rows: Sequence[Row]
    held_out: Mapping[str, Sequence[Row]]
    seed: int

    @property
    def held_out_sets(self) -> tuple[str, ...]:
        """The names of the held-out sets."""
        return tuple(self.held_out)

    def train_rows(self, step: int, count: int) -> list[Row]:
        """Return the step's rows: consecutive places in an endless sequence of shuffled passes."""
        size = len(self.rows)
        places = range(step * count, (step + 1) * count)
        orders = {turn: self.order(turn) for turn in {place // size for place in places}}
        return [self.rows[orders[place // size][place % size]] for place in places]

    def order(self, turn: int) -> np.ndarray:
        """Return the order of the rows in a pass."""
        return numpy_stream(self.seed, "prompts", turn).permutation(len(self.rows))

    def held_out_rows(self, name: str, count: int) -> list[Row]:
        """Return the first `count` rows of a held-out set."""
        return list(self.held_out[name][:count])

    def rows_to_check(self) -> list[Row]:
        """Return all rows."""
        return [*self.rows, *chain.from_iterable(self.held_out.values())]

    def solution(self, row: Row, completion: str) -> str | None:
        """Return None: a file does not say which texts mean the same."""
        return None


def read_rows(source: str, column: str) -> list[Row]:
    """Return the rows of a file or hub data set, the prompt's text under "prompt".

    Args:
        source: a .jsonl file; with the extra `data` also .parquet, .csv, or a hub id as owner/name[:split].
        column: the column that holds the prompt's text.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no prompts, a line that is no JSON object, or a row without text in the prompt column.
        ImportError: a source that needs the extra `data`.
    """
    path = Path(source)
    is_hub_id = not path.suffix and source.count("/") == 1 and not path.exists()
    if not path.is_file() and not is_hub_id:
        raise FileNotFoundError(f"read_rows({source!r}) must name a data file; got no such file. Check data.prompts.")
    rows = json_lines(path) if path.suffix == ".jsonl" else dataset_rows(source)
    if not rows:
        raise ValueError(f"read_rows({source!r}) must hold at least one prompt; got none. Check data.prompts.")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            raise ValueError(
                f"read_rows({source!r}) must have text in column {column!r} of every row; row {number} has none. "
                "Set data.prompt_column."
            )
    taken = sorted(RESERVED.intersection(name for row in rows for name in row))
    if taken:
        raise ValueError(
            f"read_rows({source!r}) must not have columns {taken}, which reward functions get from the trainer. "
            "Rename them."
        )
    # A column that only some rows have is None in the others, so that every batch has the same columns.
    names = dict.fromkeys(name for row in rows for name in row)
    return [{**{name: row.get(name) for name in names}, "prompt": row[column]} for row in rows]


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


def dataset_rows(source: str) -> list[Row]:
    """Return the rows of a .parquet or .csv file or of a hub data set, through `datasets`."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"dataset_rows({source!r}) needs the package datasets. Install entrocraft[data], or give a .jsonl file."
        ) from error
    kind = Path(source).suffix.removeprefix(".")
    if kind:
        return list(datasets.load_dataset(kind, data_files=source, split="train"))
    name, _, split = source.partition(":")
    return list(datasets.load_dataset(name, split=split or "train"))


def build_prompts(config: TrainConfig) -> PromptSource:
    """Return the prompt source that the configuration names."""
    data = config.data
    if data.prompts is not None:
        held_out = {name: read_rows(source, data.prompt_column) for name, source in named_sets(data.held_out).items()}
        return FilePrompts(read_rows(data.prompts, data.prompt_column), held_out, config.seed)
    return TaskPrompts(build_task(data.task), config.seed, config.evaluation.split, config.evaluation.seed)


def named_sets(held_out: str | dict[str, str] | None) -> dict[str, str]:
    """Return the source of each held-out set by its name; a single source is the set `held_out`.

    >>> named_sets("test.jsonl")
    {'held_out': 'test.jsonl'}
    """
    if isinstance(held_out, str):
        return {"held_out": held_out}
    return held_out or {}


def build_task(name: str) -> Any:
    """Return the task of this name, or the user's own as `module:Class`.

    Raises:
        ValueError: no such task.
    """
    if ":" in name:
        return instantiate("data.task", name, import_object("data.task", name), {})
    if name not in TASKS:
        raise ValueError(
            f"data.task={name!r} must be one of {sorted(TASKS)} or module:name of your own; got neither. "
            f"{nearest(name, TASKS)}"
        )
    return instantiate("data.task", name, TASKS[name], {})


def max_new_tokens(config: TrainConfig) -> int:
    """Return the longest completion allowed: the configured number, or the task's longest answer."""
    if config.rollout.max_new_tokens:
        return config.rollout.max_new_tokens
    if config.data.prompts is not None:
        raise ValueError("rollout.max_new_tokens must be set when prompts come from a file; got 0.")
    return build_task(config.data.task).max_answer_tokens


def encode_prompts(policy: Policy, rows: Sequence[Row], new_tokens: int) -> list[list[int]]:
    """Return the token ids of each row's prompt.

    Raises:
        ValueError: an empty prompt, one that leaves no room for its completion in the model's context, or one with
            words that the tokenizer does not know.
    """
    ids = policy.encode([row["prompt"] for row in rows])
    tokenizer = policy.tokenizer
    # Some tokenizers use one token for unknown words and for the beginning or end.
    others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    unknown = None if tokenizer.unk_token_id in others else tokenizer.unk_token_id
    for row, tokens in zip(rows, ids, strict=True):
        if unknown is not None and unknown in tokens:
            raise ValueError(
                f"encode_prompts(prompt={row['prompt'][:60]!r}) must hold known words alone; got some that "
                "the tokenizer maps to its unknown token. Take a model whose tokenizer fits the prompts."
            )
        if not tokens or len(tokens) + new_tokens > policy.context_length:
            raise ValueError(
                f"encode_prompts(prompt={row['prompt'][:60]!r}) must have 1 to {policy.context_length - new_tokens} "
                f"tokens (context {policy.context_length} less rollout.max_new_tokens {new_tokens}); "
                f"got {len(tokens)}. Shorten the prompt or lower rollout.max_new_tokens."
            )
    return ids
