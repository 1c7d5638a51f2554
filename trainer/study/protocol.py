"""The protocol of a study: which runs it is made of, fixed in a file before the first one starts.

A protocol is YAML. `base` is laid under every run, `arms` are what is compared, `parts` are the conditions that they
are compared under, each with the seeds of the arms that take part. `models` are base models that the study makes.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.hashes import file_hash
from trainer.methods.lookup import nearest
from trainer.parsing import PRESETS, described_presets, with_preset_paths

STUDIES = PRESETS / "studies"
# Names become folders.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# The folders of the base model's evaluation and of models that the study makes lie among those of the parts.
BASE = "base"
MODELS = "models"


@dataclass(frozen=True)
class Layer:
    """Settings of runs: presets or recipes by name, later ones on top, and settings over them."""

    config: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Part:
    """A condition.

    Args:
        settings: of its runs, over those of base and arm.
        seeds: of each arm that takes part.
        model: of `Protocol.models`, that its runs start from; None for the one that the settings name.
        reuse: arms whose runs are those of another part, by that part's name: for arms that its settings do not touch.
    """

    settings: Mapping[str, Any]
    seeds: Mapping[str, tuple[int, ...]]
    reuse: Mapping[str, str]
    model: str | None = None


@dataclass(frozen=True)
class Final:
    """An evaluation of finished runs.

    Args:
        settings: the sampling settings.
        samples: completions a prompt; None for the run's own `evaluation.samples`.
        checkpoints: how many of the last checkpoints, `checkpoint.every` steps apart.
    """

    settings: tuple[str, ...]
    samples: int | None = None
    checkpoints: int = 1


@dataclass(frozen=True)
class Question:
    """What a study is to decide: whether an arm is better than another, each named by (part, arm)."""

    name: str
    of: tuple[str, str]
    against: tuple[str, str]


@dataclass(frozen=True)
class Rules:
    """How a study decides.

    Args:
        setting: sampling setting that verdicts are of; None for none.
        window: evaluations in a row that are taken together.
        margin: difference of pass@1 from which one arm counts as better.
        plateau_rise: rise of pass@1 below which a curve counts as flat.
        plateau_steps: steps over which it must be.
    """

    setting: str | None = None
    window: int = 3
    margin: float = 0.01
    plateau_rise: float = 0.01
    plateau_steps: int = 1000


@dataclass(frozen=True)
class Protocol:
    """A study.

    Args:
        name: of its file.
        base: laid under every run.
        arms: what is compared, by name.
        parts: conditions, by name.
        models: how base models are made, by name, as `entrocraft pretrain` takes it but for the output.
        finally_: how the last checkpoints of each run are evaluated once more.
        after: steps that the tables leave out at the beginning of each run.
        reference: the arm that the others are compared with; None for no comparison.
        pass_at: the k of pass@k in the comparison.
        every_step: arms whose first run is tabulated step by step.
        curve_steps: steps that a row of the curves is the mean of.
        questions: what is to be decided.
        rules: how.
        sha256: of the file.
    """

    name: str
    base: Layer
    arms: Mapping[str, Layer]
    parts: Mapping[str, Part]
    models: Mapping[str, Mapping[str, Any]]
    finally_: tuple[Final, ...]
    after: int
    reference: str | None
    pass_at: tuple[int, ...]
    every_step: tuple[str, ...]
    curve_steps: int
    questions: tuple[Question, ...]
    rules: Rules
    sha256: str

    def seeds_of(self, part: str, arm: str) -> tuple[int, ...]:
        """Return the seeds of an arm in a part, those of the part whose runs it reuses included."""
        condition = self.parts[part]
        return condition.seeds[arm] if arm in condition.seeds else self.seeds_of(condition.reuse[arm], arm)

    def settings_hash(self, part: str, arm: str) -> str:
        """Return a hash of what is said of an arm's runs as those of a part, and of the tables of their steps.

        It is of the text: presets go in by name, and a setting that moves from an arm to a part changes it.
        """
        condition = self.parts[part]
        source = condition if arm in condition.seeds else self.parts[condition.reuse[arm]]
        model = self.models[source.model] if source.model else None
        of_run = (asdict(self.base), asdict(self.arms[arm]), source.settings, model)
        said = (*of_run, condition.settings, self.after, self.curve_steps)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def protocol_file(name: str) -> Path:
    """Return the file of a protocol: a name among the shipped ones, or a path.

    Raises:
        ValueError: neither.
    """
    shipped = STUDIES / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    if Path(name).is_file():
        return Path(name)
    known = list(described_presets(STUDIES))
    raise ValueError(f"study {name} must be a YAML file or one of {known}; got neither. {nearest(name, known)}")


def load_protocol(name: str) -> Protocol:
    """Return the protocol of this name or path.

    Raises:
        ValueError: no such protocol, or one with a key, an arm, a part or a preset that there is not; the message says
            where.

    >>> load_protocol("controllers").parts["square"].reuse
    {'grpo': 'constant'}
    """
    file = protocol_file(name)
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"study {name} must be YAML; got: {error}") from error
    keys = (
        *("base", "models", "arms", "parts", "finally", "after", "reference", "pass_at", "every_step"),
        *("curve_steps", "questions", "rules"),
    )
    tree = mapping(name, read, keys)
    arms = {arm: layer(f"{name}: arms.{arm}", value) for arm, value in named(f"{name}: arms", tree.get("arms")).items()}
    models = {
        model: mapping(f"{name}: models.{model}", value)
        for model, value in (named(f"{name}: models", tree["models"]) if "models" in tree else {}).items()
    }
    parts = {
        part: load_part(f"{name}: parts.{part}", value, list(arms), list(models))
        for part, value in named(f"{name}: parts", tree.get("parts")).items()
    }
    for part, condition in parts.items():
        for arm, other in condition.reuse.items():
            where = f"{name}: parts.{part}.reuse.{arm}"
            known_name(where, other, list(parts))
            if arm not in parts[other].seeds or arm in condition.seeds:
                raise ValueError(
                    f"{where} must be a part that runs {arm}, which {part} then does not; got {other!r}. Name another."
                )
    finally_ = finals(f"{name}: finally", tree.get("finally", []))
    pass_at = numbers(f"{name}: pass_at", tree.get("pass_at", [1]))
    after = whole(f"{name}: after", tree.get("after", 50))
    curve_steps = whole(f"{name}: curve_steps", tree.get("curve_steps", 5))
    for key, least in (("pass_at", min(pass_at)), ("curve_steps", curve_steps)):
        if least < 1:
            raise ValueError(f"{name}: {key} must be at least 1; got {least}. Correct it.")
    reference = tree.get("reference")
    every_step = texts(f"{name}: every_step", tree.get("every_step", []))
    for key, arm in [*(("reference", arm) for arm in [reference] if arm), *(("every_step", arm) for arm in every_step)]:
        known_name(f"{name}: {key}", arm, list(arms))
    return Protocol(
        name=file.stem,
        base=layer(f"{name}: base", tree.get("base", {})),
        arms=arms,
        parts=parts,
        models=models,
        finally_=finally_,
        after=after,
        reference=reference,
        pass_at=pass_at,
        every_step=every_step,
        curve_steps=curve_steps,
        questions=tuple(questions(f"{name}: questions", tree.get("questions", {}), parts)),
        rules=load_rules(f"{name}: rules", tree.get("rules", {})),
        sha256=file_hash(file),
    )


def questions(where: str, value: Any, parts: Mapping[str, Part]) -> Iterator[Question]:
    """Yield questions about arms that their parts have."""
    for name, asked in mapping(where, value).items():
        tree = mapping(f"{where}.{name}", asked, ("of", "against"))
        sides = []
        for side in ("of", "against"):
            here = f"{where}.{name}.{side}"
            given = texts(here, tree.get(side))
            if len(given) != 2:
                raise ValueError(f"{here} must be [PART, ARM]; got {list(given)}. Name both.")
            known_name(here, given[0], list(parts))
            known_name(here, given[1], [*parts[given[0]].seeds, *parts[given[0]].reuse])
            sides.append((given[0], given[1]))
        yield Question(str(name), *sides)


def load_rules(where: str, value: Any) -> Rules:
    """Return the rules of decisions."""
    tree = mapping(where, value, tuple(Rules.__dataclass_fields__))
    if not isinstance(tree.get("setting", ""), str):
        raise ValueError(f"{where}.setting must be the name of a sampling setting; got {tree['setting']!r}. Name one.")
    for key, given in tree.items():
        if key != "setting" and (isinstance(given, bool) or not isinstance(given, int | float) or given <= 0):
            raise ValueError(f"{where}.{key} must be a number above 0; got {given!r}. Correct it.")
    for key in ("window", "plateau_steps"):
        whole(f"{where}.{key}", tree.get(key, 1))
    return Rules(**tree)


def finals(where: str, value: Any) -> tuple[Final, ...]:
    """Return evaluations of finished runs: a list of mappings, or of the settings of a single one."""
    if not isinstance(value, list) or all(isinstance(item, str) for item in value):
        settings = texts(where, value)
        return (Final(settings),) if settings else ()
    found = []
    for place, item in enumerate(value):
        here = f"{where}[{place}]"
        tree = mapping(here, item, ("settings", "samples", "checkpoints"))
        numbers = {key: whole(f"{here}.{key}", tree[key]) for key in ("samples", "checkpoints") if key in tree}
        if 0 in numbers.values():
            raise ValueError(f"{here} must evaluate at least 1; got {numbers}. Correct it.")
        found.append(Final(texts(f"{here}.settings", tree.get("settings")), **numbers))
    return tuple(found)


def load_part(where: str, value: Any, arms: Sequence[str], models: Sequence[str]) -> Part:
    """Return a part whose arms, and whose model, are all known."""
    tree = mapping(where, value, ("settings", "seeds", "reuse", "model"))
    if "model" in tree:
        known_name(f"{where}.model", tree["model"], models)
    seeds = mapping(f"{where}.seeds", tree.get("seeds"), arms)
    reuse = mapping(f"{where}.reuse", tree.get("reuse", {}), arms)
    return Part(
        settings=mapping(f"{where}.settings", tree.get("settings", {})),
        seeds={arm: numbers(f"{where}.seeds.{arm}", values) for arm, values in seeds.items()},
        reuse={arm: str(part) for arm, part in reuse.items()},
        model=tree.get("model"),
    )


def layer(where: str, value: Any) -> Layer:
    """Return a layer whose presets there are."""
    tree = mapping(where, value, ("config", "settings"))
    config = texts(f"{where}.config", tree.get("config", []))
    try:
        with_preset_paths([part for name in config for part in ("--config", name)])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Layer(config, mapping(f"{where}.settings", tree.get("settings", {})))


def mapping(where: str, value: Any, keys: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a mapping whose keys are among these."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping; got {value!r}. Write it as NAME: VALUE.")
    for key in value if keys is not None else ():
        known_name(where, key, keys or ())
    return dict(value)


def named(where: str, value: Any) -> dict[str, Any]:
    """Return a mapping that is not empty and whose keys can be folders."""
    tree = mapping(where, value)
    taken = (BASE, MODELS)
    bad = [key for key in tree if not (isinstance(key, str) and NAME.fullmatch(key)) or key in taken]
    if bad or not tree:
        raise ValueError(
            f"{where} must have names of letters, digits, '_', '.' and '-', other than {' and '.join(taken)}; got "
            f"{bad or 'none'}. Name each."
        )
    return tree


def known_name(where: str, name: Any, known: Sequence[str]) -> None:
    """Refuse a name that is not among the known ones."""
    if name not in known:
        raise ValueError(f"{where} must be of {list(known)}; got {name!r}. {nearest(str(name), known)}".rstrip())


def texts(where: str, value: Any) -> tuple[str, ...]:
    """Return a list of texts as a tuple."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{where} must be a list of names; got {value!r}. Write it as [NAME, NAME].")
    return tuple(value)


def numbers(where: str, value: Any) -> tuple[int, ...]:
    """Return a list of different whole numbers, not negative, as a tuple."""
    if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
        raise ValueError(f"{where} must be a list of different whole numbers; got {value!r}. Write it as [0, 1].")
    return tuple(whole(where, item) for item in value)


def whole(where: str, value: Any) -> int:
    """Return a whole number that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{where} must be a whole number of at least 0; got {value!r}. Correct it.")
    return value
