"""Whether a run may go on under a configuration: what may differ from the run's own, and what differs."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from trainer.config import TrainConfig
from trainer.parsing import plain

# A run may go on with other values of these: settings, or groups of them.
# They change what is kept and shown, and no number of the run.
CHANGE_NOTHING = ("output", "resume", "overwrite", "log", "checkpoint.every", "checkpoint.keep")
# They change memory and speed, and results by rounding at most: what helps where memory ran out or the machine changed.
CHANGE_ROUNDING = (
    "model.device",
    "model.threads",
    "model.gradient_checkpointing",
    "model.parallel",
    "optimizer.micro_batch_rows",
    "optimizer.micro_batch_tokens",
    "rollout.slots",
    "evaluation.rows_at_once",
)
# Not `steps`: schedules of the band, the learning rate and some methods run over all steps, so that a longer run's
# first steps are others.


def changes(old: TrainConfig, new: TrainConfig) -> dict[str, str]:
    """Return the settings that differ, as "old -> new" by dotted name.

    >>> changes(TrainConfig(seed=1), TrainConfig(seed=2))
    {'seed': '1 -> 2'}
    """
    before, after = dotted_values(old), dotted_values(new)
    # Mappings that users fill, such as options, need not have the same keys.
    names = dict.fromkeys([*before, *after])
    return {
        name: f"{shown(before, name)} -> {shown(after, name)}"
        for name in names
        if shown(before, name) != shown(after, name)
    }


def dotted_values(config: TrainConfig) -> dict[str, Any]:
    """Return every setting by its dotted name."""
    return dotted(plain(asdict(config)))


def shown(settings: Mapping[str, Any], name: str) -> str:
    """Return a setting's value as text."""
    return repr(settings[name]) if name in settings else "not set"


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one of dotted names.

    >>> dotted({"a": {"b": 1, "c": {}}})
    {'a.b': 1, 'a.c': {}}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def among(name: str, settings: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of these settings or in one of these groups."""
    return any(name == setting or name.startswith(setting + ".") for setting in settings)


def check_same_run(old: TrainConfig, new: TrainConfig) -> dict[str, str]:
    """Return the changed settings that may change results by rounding.

    Args:
        old: the run's own configuration.
        new: that it is to go on with.

    Raises:
        ValueError: others differ that would make it another run.
    """
    changed = {name: text for name, text in changes(old, new).items() if not among(name, CHANGE_NOTHING)}
    other = {name: text for name, text in changed.items() if not among(name, CHANGE_ROUNDING)}
    if other:
        remedy = ""
        if "steps" in other:
            remedy = (
                " Schedules run over all steps, so that a longer run is another one: begin it at the weights of this "
                "one with --model.path CHECKPOINT and an output of its own."
            )
        raise ValueError(
            f"resume must go on with the run's own settings; got {', '.join(f'{k}: {v}' for k, v in other.items())}. "
            f"Pass --config {new.output / 'config.yaml'} --resume, or --overwrite to replace the run.{remedy}"
        )
    return changed


def recorded(config: TrainConfig) -> TrainConfig:
    """Return the configuration that the run directory keeps: how to make the run, not how this one was begun."""
    return replace(config, resume=False, overwrite=False)
