"""Every method by name, once. A new method is one file and one row; users name their own as `module:name`."""

import importlib
from collections.abc import Mapping
from typing import Any

from trainer.methods.advantages import GRPO, reinforce
from trainer.methods.clips import PPOClip
from trainer.methods.filters import algorithm1, keep_all, released
from trainer.methods.losses import drop, zero
from trainer.methods.schedules import Constant, Cosine, Linear
from trainer.methods.stages import Controller, Stateless

ADVANTAGES: dict[str, Any] = {"grpo": GRPO, "reinforce": reinforce}
FILTERS: dict[str, Any] = {"none": keep_all, "algorithm1": algorithm1, "released": released}
TOKEN_WEIGHTS: dict[str, Any] = {}
CLIPS: dict[str, Any] = {"ppo": PPOClip}
DENOMINATORS: dict[str, Any] = {"drop": drop, "zero": zero}
SCHEDULES: dict[str, Any] = {"constant": Constant, "linear": Linear, "cosine": Cosine}


def build(key: str, name: str, table: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Any:
    """Return the method called `name`, built with its options where it is a class.

    Args:
        key: the config key the name came from, for the message.
        name: a row of the table, or `module:name` for a method of the user's own.
        table: the methods of this stage.
        options: hyper-parameters for the method's class.

    Raises:
        ValueError: an unknown name, an unknown option, or options for a method without hyper-parameters.
        ImportError: a `module:name` that cannot be imported.

    >>> build("algorithm.advantage", "grpo", ADVANTAGES, {"eps": 0.0})
    GRPO(eps=0.0)
    """
    if name in table:
        method = table[name]
    elif ":" in name:
        method = import_object(key, name)
    else:
        raise ValueError(f"{key}={name!r} must be one of {sorted(table)} or module:name of your own; got neither.")
    if not isinstance(method, type):
        if options:
            raise ValueError(f"{key}={name!r} takes no options; got {dict(options)}. Leave {key}_options empty.")
        return method
    try:
        return method(**(options or {}))
    except TypeError as error:
        raise ValueError(f"{key}_options={dict(options or {})} must fit {name}: {error}.") from error


def import_object(key: str, name: str) -> Any:
    """Return the object named `module:name`.

    Raises:
        ImportError: no such module, or no such name in it.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImportError(
            f"{key}={name!r} must name something importable as module:name; got {type(error).__name__}: {error}. "
            "Run from the folder that holds the module, or put it on PYTHONPATH."
        ) from error


def build_controller(name: str, options: Mapping[str, Any] | None = None) -> Controller:
    """Return the filter or controller of this name as a controller; a plain filter gets an empty state."""
    method = build("algorithm.filter", name, FILTERS, options)
    return method if isinstance(method, Controller) else Stateless(method)
