"""The runs of a study: each with its whole configuration and its folder, in the order in which they start."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from trainer.algorithm import build_algorithm, build_schedule
from trainer.config import TrainConfig
from trainer.evaluation_settings import build_settings, evaluation_keys
from trainer.parsing import as_yaml, load_config
from trainer.same_run import check_same_run, recorded
from trainer.schedule_file import with_points
from trainer.study.protocol import MODELS, Layer, Protocol, known_name


@dataclass(frozen=True)
class Run:
    """A run of a study; `config.output` is its folder."""

    part: str
    arm: str
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """What the run is called by, and where it lies under the study's folder."""
        return f"{self.part}/{self.arm}/seed{self.seed}"

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.config.output

    @property
    def begun(self) -> bool:
        """Whether its directory holds a run, finished or not."""
        return (self.path / "config.yaml").is_file()

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "summary.json").is_file()


@dataclass(frozen=True)
class Choice:
    """A part of a study: names of parts and arms, and seeds; None for all."""

    parts: Collection[str] | None = None
    arms: Collection[str] | None = None
    seeds: Collection[int] | None = None

    def check(self, protocol: Protocol) -> None:
        """Refuse what the protocol does not have.

        Raises:
            ValueError: an unknown part or arm, or a seed that no arm has.
        """
        seeds = sorted({seed for part in protocol.parts.values() for own in part.seeds.values() for seed in own})
        for option, chosen, known in (
            ("parts", self.parts, list(protocol.parts)),
            ("arms", self.arms, list(protocol.arms)),
            ("seeds", self.seeds and map(str, self.seeds), list(map(str, seeds))),
        ):
            for name in chosen or ():
                known_name(f"study {protocol.name} --{option}", name, known)


EVERYTHING = Choice()


def plan(protocol: Protocol, output: Path, choice: Choice = EVERYTHING) -> list[Run]:
    """Return the runs of a study, or of a part of it: first seeds of all arms of all parts, then second ones.

    Raises:
        ValueError: a choice that the protocol does not have, or a run whose settings cannot be used.
    """
    choice.check(protocol)
    configured = cache(lambda part, arm: configuration(protocol, output, part, arm))
    rounds = zip_longest(
        *(
            [(part, arm, seed) for seed in seeds]
            for part, condition in protocol.parts.items()
            if choice.parts is None or part in choice.parts
            for arm, seeds in condition.seeds.items()
            if choice.arms is None or arm in choice.arms
        )
    )
    return [
        Run(part, arm, seed, replace(configured(part, arm), seed=seed, output=output / part / arm / f"seed{seed}"))
        for started in rounds
        for part, arm, seed in filter(None, started)
        if choice.seeds is None or seed in choice.seeds
    ]


def configuration(protocol: Protocol, output: Path, part: str, arm: str) -> TrainConfig:
    """Return the configuration of an arm's runs in a part, but for seed and output.

    Args:
        protocol: the study.
        output: its folder, where models that it makes lie.
        part: name of the part.
        arm: name of the arm.

    Raises:
        ValueError: settings that cannot be used; the message says of which part and arm.
    """
    condition = protocol.parts[part]
    started = {"model": {"path": str(model_folder(output, condition.model))}} if condition.model else {}
    layers = (protocol.base, protocol.arms[arm], Layer(settings=condition.settings), Layer(settings=started))
    try:
        config = with_points(layered(*layers))
        build_algorithm(config)
        build_schedule(config)
        build_settings(config.evaluation)
    except ValueError as error:
        raise ValueError(f"study {protocol.name}, part {part}, arm {arm}: {error}") from error
    ruled, keys = protocol.rules.setting, evaluation_keys(config)
    if ruled and ruled not in keys:
        raise ValueError(
            f"study {protocol.name}: rules.setting must be evaluated by every run, else nothing is decided; got "
            f"{ruled!r}, and part {part}, arm {arm} with {keys}. Name one of these."
        )
    for final in protocol.finally_:
        try:
            replace(config.evaluation, settings=final.settings)
        except ValueError as error:
            raise ValueError(f"study {protocol.name}: finally: {error}") from error
        if final.checkpoints > 1 and not saves(config, final.checkpoints):
            raise ValueError(
                f"study {protocol.name}: finally: checkpoints={final.checkpoints} must be saved by every run; got "
                f"part {part}, arm {arm} with steps={config.steps} and {config.checkpoint}. Set checkpoint.every to a "
                "divisor of steps, and checkpoint.keep."
            )
    return config


def saves(config: TrainConfig, checkpoints: int) -> bool:
    """Return whether a run keeps so many last checkpoints, evenly apart."""
    every, keep = config.checkpoint.every, config.checkpoint.keep
    return every > 0 and config.steps % every == 0 and checkpoints <= min(keep or checkpoints, config.steps // every)


def model_folder(output: Path, name: str) -> Path:
    """Return where a model that the study makes lies."""
    return output / MODELS / name


def layered(*layers: Layer) -> TrainConfig:
    """Return the configuration of these layers: the presets of all in turn, then the settings of all over them."""
    settings: dict[str, Any] = {}
    for layer in layers:
        settings = merged(settings, layer.settings or {})
    with TemporaryDirectory() as folder:
        file = Path(folder) / "settings.yaml"
        file.write_text(yaml.safe_dump(settings))
        names = [*(name for layer in layers for name in layer.config), str(file)]
        return load_config(*(part for name in names for part in ("--config", name)))


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return two nested mappings as one; the second wins.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    both = {
        name: merged(under[name], value) if isinstance(value, Mapping) and isinstance(under[name], Mapping) else value
        for name, value in over.items()
        if name in under
    }
    return {**under, **over, **both}


def check_runs(runs: list[Run]) -> None:
    """Refuse folders that hold runs of another configuration, as after a change of the protocol.

    Raises:
        ValueError: the first of them, what differs, and how many there are.
    """
    others = list(differing(runs))
    if others:
        run, difference = others[0]
        raise ValueError(
            f"study(run={run.name}) must be the run that is in its folder; got another configuration in {run.path}: "
            f"{difference} ({len(others)} of {len(runs)} runs differ). Put the protocol back as it was, choose another "
            "--output, or move these folders away."
        )


def differing(runs: list[Run]) -> Iterator[tuple[Run, str]]:
    """Yield the runs whose folders hold another configuration, with what differs."""
    for run in filter(lambda run: run.begun, runs):
        file = run.path / "config.yaml"
        # Reading a configuration takes long; most are the same to the letter.
        if without_output(file.read_text()) == without_output(as_yaml(recorded(run.config))):
            continue
        try:
            check_same_run(load_config("--config", str(file)), run.config)
        except ValueError as error:
            yield run, str(error).partition("; got ")[2].partition(" Pass --config")[0].rstrip(".") or str(error)


def without_output(text: str) -> str:
    """Return a configuration as YAML without the line that says where its run is."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("output: "))
