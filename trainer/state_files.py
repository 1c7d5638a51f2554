"""A tree of tensors, numbers and text as two files, `.safetensors` and `.json`: reading them runs no code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

# Mappings with a single key of these names stand for what JSON does not have.
TAGS = ("tensor", "tuple", "items")


def write_state(stem: Path, tree: Any) -> None:
    """Write a tree of mappings, lists and tuples over tensors, numbers, text, booleans and None.

    Args:
        stem: the two files without their endings.
        tree: what `read_state` returns again, tensors bit for bit, on the CPU.

    Raises:
        ValueError: a value of another kind.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(packed(tree, (), tensors), indent=1)
    save_file(unshared(tensors), stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(text + "\n")


def read_state(stem: Path) -> Any:
    """Return the tree that `write_state` wrote."""
    return unpacked(json.loads(stem.with_suffix(".json").read_text()), load_file(stem.with_suffix(".safetensors")))


def packed(value: Any, place: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Return the value as JSON knows it; its tensors go to `tensors`, by their place in the tree."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name = ".".join(place)
        while name in tensors:
            name += "_"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, list | tuple):
        parts = [packed(item, (*place, str(index)), tensors) for index, item in enumerate(value)]
        return {"tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, Mapping):
        items = [(key, packed(item, (*place, str(key)), tensors)) for key, item in value.items()]
        if all(isinstance(key, str) for key in value) and not (len(value) == 1 and next(iter(value)) in TAGS):
            return dict(items)
        if all(isinstance(key, str | int) for key in value):
            return {"items": items}
    raise ValueError(
        f"write_state(tree) must hold tensors, numbers, text, lists, tuples and mappings alone; got "
        f"{type(value).__name__} at {'.'.join(place)}. A method's state must be made of those."
    )


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `packed` was given."""
    if isinstance(value, list):
        return [unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        tag, content = next(iter(value.items()))
        if tag == "tensor":
            return tensors[content]
        if tag == "tuple":
            return tuple(unpacked(item, tensors) for item in content)
        if tag == "items":
            return {key: unpacked(item, tensors) for key, item in content}
    return {key: unpacked(item, tensors) for key, item in value.items()}


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each contiguous and in memory of its own, as safetensors wants them."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        if memory in seen or own.untyped_storage().nbytes() != own.nbytes:
            own = own.clone(memory_format=torch.contiguous_format)
        seen.add(memory)
        found[name] = own
    return found
