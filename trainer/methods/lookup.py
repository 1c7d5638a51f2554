"""What a configuration names, found and built: rows of a table, and objects of the user's own as `module:name`."""

import difflib
import importlib
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean ...? " with the nearest known name, or nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}? " if close else ""


def instantiate(key: str, name: str, method: Any, options: Mapping[str, Any], options_key: str | None = None) -> Any:
    """Return a function as it is, and a class built with its options.

    Args:
        key: the config key that the name came from, for messages.
        name: what the configuration calls the method.
        method: the function or class.
        options: hyper-parameters for the class.
        options_key: the config key of the options, for messages; by default `key` and `_options`.

    Raises:
        ValueError: an unknown or absent option, or options for what has no hyper-parameters.
    """
    given, options_key = dict(options), options_key or f"{key}_options"
    if not isinstance(method, type):
        if given:
            raise ValueError(f"{key}={name!r} takes no options; got {given}. Leave {options_key} empty.")
        return method
    known = list(inspect.signature(method).parameters)
    unknown = [option for option in given if option not in known]
    if unknown:
        raise ValueError(
            f"{options_key}={given} must be of {name}'s {known}; got {unknown[0]!r}. {nearest(unknown[0], known)}"
        )
    for option, value in given.items():
        values = list(value.values()) if isinstance(value, Mapping) else value
        parts = values if isinstance(values, list | tuple) else [values]
        if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
            raise ValueError(f"{options_key}={given} must hold finite numbers; got {option}={value}.")
    try:
        return method(**given)
    except TypeError as error:
        raise ValueError(f"{options_key}={given} must fit {name}: {error}.") from error


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
