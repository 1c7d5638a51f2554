"""States on disk: every tree that a method may keep comes back bit for bit, and nothing is pickled."""

import math
from dataclasses import dataclass

import pytest
import torch

from trainer.hashes import HASH_FILE, damage, write_hashes
from trainer.state_files import read_state, write_state

SHARED = torch.arange(6.0)
TREES = {
    "plain": {"a": 1, "b": [1.5, None, True, "text"], "c": (0.9, (1, 2))},
    "floats": {"x": 0.1 + 0.2, "tiny": 5e-324, "inf": [math.inf, -math.inf], "-0": -0.0},
    "keys": {0: {"exp_avg": torch.ones(2)}, "1": torch.zeros(1), 1: torch.ones(1)},
    "names that look like tags": {"tensor": 1, "x": {"tensor": "a"}, "y": {"items": []}, "z": {"tuple": [1]}},
    "names that meet": {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}},
    "tensors": [torch.tensor(3), torch.zeros(0), torch.eye(2).bool(), torch.ones(2, dtype=torch.bfloat16)],
    "shared memory": [SHARED, SHARED, SHARED[2:4], SHARED.view(2, 3).T],
    "empty": {"a": {}, "b": [], "c": ()},
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


@pytest.mark.parametrize("name", TREES)
def test_a_tree_comes_back(name, tmp_path):
    write_state(tmp_path / "state", TREES[name])
    assert same(read_state(tmp_path / "state"), TREES[name])
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_not_a_number_comes_back(tmp_path):
    write_state(tmp_path / "state", [math.nan])
    assert math.isnan(read_state(tmp_path / "state")[0])


def test_an_optimiser_goes_on_as_if_nothing_had_been(tmp_path):
    def build():
        layer = torch.nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.fill_(0.1)
            layer.bias.fill_(0.2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=1e-2, betas=(0.8, 0.9), weight_decay=0.1)

    def step(layer, optimizer, number):
        layer(torch.full((3,), float(number))).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    layer, optimizer = build()
    for number in range(3):
        step(layer, optimizer, number)
    write_state(tmp_path / "state", optimizer.state_dict())
    other, again = build()
    other.load_state_dict(layer.state_dict())
    again.load_state_dict(read_state(tmp_path / "state"))
    for number in range(3):
        step(layer, optimizer, number)
        step(other, again, number)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


@dataclass
class Anything:
    value: int = 1


@pytest.mark.parametrize("value", [Anything(), {1, 2}, b"bytes", {(1, 2): 3}])
def test_what_could_only_be_pickled_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match=r"at methods\.filter"):
        write_state(tmp_path / "state", {"methods": {"filter": value}})
    assert not list(tmp_path.iterdir())


def test_damage_is_named_and_what_was_added_is_none(tmp_path):
    for name, text in (("a.json", "one"), ("folder/b.json", "two")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    write_hashes(tmp_path)
    (tmp_path / "README").write_text("added by somebody")
    assert damage(tmp_path) is None
    (tmp_path / "folder" / "b.json").write_text("tow")
    assert damage(tmp_path) == "folder/b.json does not match its SHA-256"
    (tmp_path / "folder" / "b.json").unlink()
    assert damage(tmp_path) == "folder/b.json is missing"
    (tmp_path / HASH_FILE).write_bytes(b"\xff\xff")
    assert "cannot be read" in str(damage(tmp_path))
