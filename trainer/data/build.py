"""The prompts and the task that a configuration names."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config import DataConfig, HeldOutConfig, TrainConfig
from trainer.data.prompts import FilePrompts, PromptSource, TaskPrompts
from trainer.data.rows import Layout, Row, read_rows
from trainer.methods.lookup import import_object, instantiate, nearest
from trainer.tasks import TASKS


def build_prompts(config: TrainConfig) -> PromptSource:
    """Return the prompt source that the configuration names.

    Raises:
        FileNotFoundError: a file or data set that is not there.
        ValueError: rows that cannot be used, or held-out prompts that are trained on too.
        ImportError: a source that needs the extra `data`.
    """
    data = config.data
    if data.prompts is None:
        layout = Layout(columns=data.columns, template=data.template, chat=data.chat)
        return TaskPrompts(
            build_task(data.task), config.seed, config.evaluation.split, config.evaluation.seed, layout=layout
        )
    rows = read_rows(data.prompts, Layout(data.prompt_column, data.columns, data.template, data.chat))
    held_out = {name: read_rows(chosen.source, layout_of(chosen, data)) for name, chosen in held_out_sets(data).items()}
    if data.overlap == "refuse":
        refuse_overlap(rows, held_out)
    return FilePrompts(rows, held_out, config.seed)


def held_out_sets(data: DataConfig) -> dict[str, HeldOutConfig]:
    """Return the held-out sets by their names; a single source is the set `held_out`."""
    named = {"held_out": data.held_out} if isinstance(data.held_out, str) else data.held_out or {}
    return {name: HeldOutConfig(chosen) if isinstance(chosen, str) else chosen for name, chosen in named.items()}


def layout_of(chosen: HeldOutConfig, data: DataConfig) -> Layout:
    """Return the layout of a held-out set: its own, and that of the training prompts where it says nothing."""
    return Layout(
        prompt_column=chosen.prompt_column or data.prompt_column,
        columns=data.columns if chosen.columns is None else chosen.columns,
        template=data.template if chosen.template is None else chosen.template,
        chat=data.chat,
    )


def refuse_overlap(rows: Sequence[Row], held_out: Mapping[str, Sequence[Row]]) -> None:
    """Refuse held-out prompts that are trained on too, but for white space; the same one twice in a set is no error."""
    trained = {canonical(row["prompt"]) for row in rows}
    for name, some in held_out.items():
        shared = [row["prompt"] for row in some if canonical(row["prompt"]) in trained]
        if shared:
            first = canonical(shared[0])[-1][1]
            raise ValueError(
                f"data.held_out (set {name!r}) must hold no prompt of data.prompts; got {len(shared)} of {len(some)}, "
                f"the first {first[:60]!r}. Name another file or split, or set data.overlap: allow."
            )


def canonical(prompt: Any) -> tuple[tuple[str, str], ...]:
    r"""Return a prompt as (role, content) of its messages, white space as single spaces; text is a user's message.

    >>> canonical(" 1 +\n1")
    (('user', '1 + 1'),)
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return tuple((message["role"], " ".join(message["content"].split())) for message in messages)


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
