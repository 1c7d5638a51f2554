"""Methods by name: the table, options, and methods of the user's own as `module:name`."""

import sys

import pytest
import torch

from trainer.methods.advantages import GRPO
from trainer.methods.clips import PPOClip
from trainer.methods.filters import algorithm1
from trainer.methods.stages import Band, Controller, Filtered, Groups, Observation, Stateless, as_controller
from trainer.methods.table import build, find, names

BAND = Band(0.3, 0.4)
GIVEN = Groups(
    torch.tensor([[1.0, -1.0, -0.25, 0.5]]), torch.tensor([[1.2, -0.9, 0.0, -0.3]]), entropy=0.5, band=BAND, step=0
)
OBSERVED = Observation(step=0, entropy=0.5, band=BAND)


def test_build_makes_classes_with_their_options_and_returns_functions():
    assert build("advantage", "grpo", {"eps": 0.5}) == GRPO(eps=0.5)
    assert build("clip", "ppo", {"high": 0.28}) == PPOClip(low=0.2, high=0.28)
    assert build("filter", "algorithm1") is algorithm1


@pytest.mark.parametrize(
    ("name", "stage", "options", "message"),
    [
        ("gpro", "advantage", {}, r"^key='gpro' must be one of \[.*'grpo'.*\] or module:name.* Did you mean 'grpo'\?"),
        ("zzz", "advantage", {}, r"^key='zzz' must be one of .*neither\. `entrocraft methods` lists all"),
        ("ppo", "filter", {}, r"^key='ppo' must be one of .* It is a method of the stage clip\."),
        ("sps", "terms", {}, r"^key='sps' is not implemented: "),
        (
            "grpo",
            "advantage",
            {"epsilon": 1.0},
            r"^key_options=\{'epsilon': 1\.0\} must be of grpo's \['eps'\].* mean 'eps'\?",
        ),
        ("entropy_bonus", "terms", {}, r"^key_options=\{\} must fit entropy_bonus: .*coefficient"),
        ("algorithm1", "filter", {"strength": 2}, r"^key='algorithm1' takes no options; got \{'strength': 2\}"),
        ("ppo", "clip", {"low": 1.5}, r"^PPOClip\(low=1\.5"),
        ("ppo", "clip", {"high": float("nan")}, r"must hold finite numbers; got high=nan"),
        ("linear", "schedule", {"start": (0.1, float("inf")), "end": (0, 1)}, r"finite numbers; got start="),
    ],
)
def test_build_names_the_key_and_what_is_wrong(name, stage, options, message):
    with pytest.raises(ValueError, match=message):
        build(stage, name, options, key="key")


@pytest.mark.parametrize("name", ["no_such_module_of_ours:filter", "os:no_such_filter"])
def test_build_names_what_cannot_be_imported(name):
    with pytest.raises(ImportError, match=rf"algorithm\.filter='{name}'.*PYTHONPATH"):
        build("filter", name)


OWN_METHODS = '''
"""Filters of a user's own."""
from dataclasses import dataclass
import torch
from trainer.methods.stages import Filtered, Groups

def first_only(groups: Groups) -> Filtered:
    keep = torch.zeros_like(groups.advantages)
    keep[:, 0] = 1
    return Filtered(keep, groups.advantages, {"kept": 1.0})

@dataclass(frozen=True)
class At:
    place: int = 0
    def __call__(self, groups: Groups) -> Filtered:
        keep = torch.zeros_like(groups.advantages)
        keep[:, self.place] = 1
        return Filtered(keep, groups.advantages)

class Counter:
    def start(self):
        return {"steps": 0}
    def decide(self, state, groups):
        return Filtered.all(groups)
    def step(self, state, observation):
        return {"steps": state["steps"] + 1}, {"steps": float(state["steps"] + 1)}
'''


def as_controller_of(name, options=None):
    return as_controller(build("filter", name, options))


@pytest.fixture
def own_methods(tmp_path, monkeypatch):
    name = f"own_methods_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN_METHODS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_a_users_own_function_becomes_a_controller_without_memory(own_methods):
    controller = as_controller_of(f"{own_methods}:first_only")
    assert isinstance(controller, Stateless)
    assert isinstance(controller, Controller)
    decided = controller.decide(controller.start(), GIVEN)
    assert decided.weights.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert decided.info == {"kept": 1.0}
    assert controller.step({}, OBSERVED) == ({}, {})


def test_a_users_own_class_takes_options(own_methods):
    controller = as_controller_of(f"{own_methods}:At", {"place": 2})
    decided = controller.decide({}, GIVEN)
    assert decided.weights.tolist() == [[0.0, 0.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match=rf"algorithm\.filter_options=.* must be of {own_methods}:At's"):
        as_controller_of(f"{own_methods}:At", {"nowhere": 2})
    with pytest.raises(ValueError, match="takes no options"):
        as_controller_of(f"{own_methods}:first_only", {"place": 2})


def test_a_users_own_controller_is_taken_as_it_is_and_keeps_its_memory(own_methods):
    controller = as_controller_of(f"{own_methods}:Counter")
    assert not isinstance(controller, Stateless)
    first = controller.start()
    second, info = controller.step(first, OBSERVED)
    third, _ = controller.step(second, OBSERVED)
    assert (first, second, third, info) == ({"steps": 0}, {"steps": 1}, {"steps": 2}, {"steps": 1.0})


@pytest.mark.parametrize("name", names("filter"))
def test_every_plain_filter_of_the_table_runs_as_a_controller_without_memory(name):
    if find("filter", name).state:
        return
    controller = as_controller(build("filter", name))
    decided, directly = controller.decide(controller.start(), GIVEN), build("filter", name)(GIVEN)
    assert isinstance(decided, Filtered)
    assert torch.equal(decided.weights, directly.weights)
    assert torch.equal(decided.advantages, directly.advantages)
    state = {"kept": 1}
    assert controller.step(state, OBSERVED)[0] is state
