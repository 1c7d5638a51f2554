"""Which prompts a step trains on and which are held out, each a pure function of (seed, step)."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol, runtime_checkable

import numpy as np

from trainer.data.rows import Layout, Row, lay_out
from trainer.streams import numpy_stream, python_stream

# Draws for each held-out prompt that is wanted, before a task is taken to have no more.
DRAWS = 100
# Takes the name of some rows and the rows; returns those that can be used, or refuses them.
Fit = Callable[[str, Sequence[Row]], list[Row]]


@runtime_checkable
class PromptSource(Protocol):
    """Where a run's prompts come from; a row holds the prompt under "prompt", and columns for the reward."""

    def train_rows(self, step: int, count: int) -> list[Row]:
        """Return the rows of a step."""

    @property
    def held_out_sets(self) -> tuple[str, ...]:
        """The names of the sets of prompts for evaluation, in the order of the configuration."""

    def held_out_rows(self, name: str, count: int) -> list[Row]:
        """Return up to `count` rows of a held-out set, the same ones at every call."""

    def rows_to_check(self) -> list[Row]:
        """Return every row that is known beforehand, so that a bad one stops a run before it starts."""

    def fitting(self, fit: Fit, *, train: bool = True) -> "PromptSource":
        """Return the source with those rows alone that `fit` keeps, of all that are known beforehand.

        Without `train`, training rows are left as they are.
        """

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many rows were left out as they did not fit, by the name of what they come from."""

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
        layout: what the task's columns become.
    """

    task: Any
    seed: int
    split: str
    held_out_seed: int
    layout: Layout = field(default_factory=Layout)

    def train_rows(self, step: int, count: int) -> list[Row]:
        """Return `count` new training prompts."""
        generator = python_stream(self.seed, "prompts", step)
        return self.laid_out([self.task.row("train", generator=generator) for _ in range(count)])

    @property
    def held_out_sets(self) -> tuple[str, ...]:
        """The split for evaluation."""
        return (self.split,)

    def held_out_rows(self, name: str, count: int) -> list[Row]:
        """Return `count` prompts of different problems of the split `name`, fewer if the task has no more.

        What a policy can do on two forms of one problem goes together, and would count twice. A task that has several
        says by `problem(row)` which one it is; otherwise prompts are problems.
        """
        generator = python_stream(self.held_out_seed, "held out", name)
        problem_of = getattr(self.task, "problem", itemgetter("prompt"))
        rows: dict[Hashable, Row] = {}
        for _ in range(DRAWS * count):
            row = self.task.row(name, generator=generator)
            rows.setdefault(problem_of(row), row)
            if len(rows) == count:
                break
        return self.laid_out(list(rows.values()))

    def laid_out(self, rows: list[Row]) -> list[Row]:
        """Return the task's rows as the configuration asks for them."""
        return lay_out(rows, self.layout, type(self.task).__name__)

    def rows_to_check(self) -> list[Row]:
        """Return one row of each kind: a task's prompts are alike."""
        return [*self.train_rows(0, 1), *self.held_out_rows(self.split, 1)]

    def fitting(self, fit: Fit, *, train: bool = True) -> "TaskPrompts":
        """Return the same source after a look at one row of each kind."""
        fit("data.task", self.rows_to_check())
        return self

    @property
    def dropped(self) -> Mapping[str, int]:
        """Nothing: prompts are drawn as they are used."""
        return {}

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
        dropped: how many rows were left out before, by the name of what they come from.
    """

    rows: Sequence[Row]
    held_out: Mapping[str, Sequence[Row]]
    seed: int
    dropped: Mapping[str, int] = field(default_factory=dict)

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

    def fitting(self, fit: Fit, *, train: bool = True) -> "FilePrompts":
        """Return the source with the rows that fit."""
        rows = fit("data.prompts", self.rows) if train else self.rows
        held_out = {name: fit(f"data.held_out {name}", some) for name, some in self.held_out.items()}
        lost = {"data.prompts": len(self.rows) - len(rows)}
        lost |= {f"data.held_out {name}": len(some) - len(held_out[name]) for name, some in self.held_out.items()}
        dropped = {name: count for name, count in lost.items() if count}
        return replace(self, rows=rows, held_out=held_out, dropped=dropped)

    def solution(self, row: Row, completion: str) -> str | None:
        """Return None: a file does not say which texts mean the same."""
        return None
