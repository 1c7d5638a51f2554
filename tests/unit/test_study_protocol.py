"""Protocols of studies: what is refused, and which runs they make, in which order and with which configuration."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from trainer.parsing import as_yaml, described_presets, load_config
from trainer.study.plan import Choice, check_runs, differing, merged, plan
from trainer.study.protocol import STUDIES, load_protocol

TREE = {
    "base": {"config": ["countdown-small"], "settings": {"steps": 3, "theory": {"probe_rows": 4}}},
    "arms": {
        "plain": {"config": ["grpo"]},
        "held": {"config": ["algorithm1"], "settings": {"theory": {"enabled": False}}},
    },
    "parts": {
        "one": {"seeds": {"plain": [4, 0], "held": [1]}, "settings": {}},
        "two": {"seeds": {"held": [0]}, "settings": {"band": {"schedule": "square"}}, "reuse": {"plain": "one"}},
    },
    "reference": "plain",
}


@pytest.fixture
def written(tmp_path):
    """A function that writes a changed protocol: dotted names and their values, None to leave out."""

    def write(**changes):
        tree = deepcopy(TREE)
        for name, value in changes.items():
            *above, last = name.split("__")
            place = tree
            for key in above:
                place = place[key]
            place[last] = value
            if value is None:
                del place[last]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return str(tmp_path / "mine.yaml")

    return write


def test_runs_and_their_order(written):
    """The first seed of every arm of every part, then the second ones."""
    runs = plan(load_protocol(written()), Path("out"))
    assert [run.name for run in runs] == ["one/plain/seed4", "one/held/seed1", "two/held/seed0", "one/plain/seed0"]
    assert [run.config.seed for run in runs] == [4, 1, 0, 0]
    assert runs[0].path == Path("out/one/plain/seed4")
    chosen = plan(load_protocol(written()), Path("out"), Choice(parts=["one"], arms=["plain"], seeds=[0]))
    assert [run.name for run in chosen] == ["one/plain/seed0"]


def test_a_run_has_the_points_of_its_schedules_file(written, tmp_path):
    """As its directory keeps them: a file that has changed since makes another run."""
    file = tmp_path / "schedule.csv"
    file.write_text("step,low,high\n0,0.25,0.5\n")
    band = {"schedule": "piecewise", "options": {"file": str(file)}}
    protocol = load_protocol(written(parts__two__settings={"band": band}))
    (run,) = plan(protocol, tmp_path / "out", Choice(parts=["two"]))
    assert run.config.band.options == {"points": [[0.0, 0.25, 0.5]]}
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text(as_yaml(run.config))
    file.write_text("step,low,high\n0,0.25,0.75\n")
    ((_, difference),) = differing(plan(protocol, tmp_path / "out", Choice(parts=["two"])))
    assert "band.options.points: [[0.0, 0.25, 0.5]] -> [[0.0, 0.25, 0.75]]" in difference


def test_a_run_has_the_configuration_of_its_layers(written, tmp_path):
    """Presets of base and arm in turn, then the settings of base, arm and part: as on the command line."""
    # Both presets say how often to evaluate.
    held = {"config": ["algorithm1", "paper-evaluation"], "settings": {"theory": {"enabled": False}}}
    _, _, run, _ = plan(load_protocol(written(arms__held=held)), tmp_path)
    given = ["--config=countdown-small", "--config=algorithm1", "--config=paper-evaluation"]
    given += ["--steps=3", "--theory.probe_rows=4"]
    given += ["--theory.enabled=false", "--band.schedule=square", f"--output={tmp_path}/two/held/seed0"]
    assert run.config == load_config(*given)


def test_settings_are_merged_and_nothing_is_changed():
    under, over = {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": 3}}, {"a": {"c": {"d": 4}}, "e": 5, "g": {"h": 6}}
    assert merged(under, over) == {"a": {"b": 1, "c": {"d": 4}}, "e": 5, "g": {"h": 6}}
    assert under == {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": 3}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bases": {}}, "mine.yaml must be of ['base', 'models', 'arms'"),
        ({"arms__plain": {"config": ["gropo"]}}, "arms.plain: --config gropo"),
        ({"arms__plain": {"settings": []}}, "arms.plain.settings must be a mapping"),
        ({"arms__plain": {"configs": []}}, "arms.plain must be of ['config', 'settings']; got 'configs'"),
        ({"arms__a/b": {}}, "must have names of letters"),
        ({"parts__base": {"seeds": {"plain": [0]}}}, "other than base and models; got ['base']"),
        ({"parts__one__seeds": {"plian": [0]}}, "parts.one.seeds must be of ['plain', 'held']; got 'plian'. Did you"),
        ({"parts__one__seeds": {"plain": [0, 0]}}, "parts.one.seeds.plain must be a list of different whole numbers"),
        ({"parts__one__seeds": {"plain": [-1]}}, "at least 0; got -1"),
        ({"parts__one__seeds": {"plain": 3}}, "Write it as [0, 1]"),
        ({"parts__one__seeds": None}, "parts.one.seeds must be a mapping"),
        ({"parts__two__reuse": {"plain": "three"}}, "reuse.plain must be of ['one', 'two']; got 'three'"),
        ({"parts__two__reuse": {"held": "one"}}, "must be a part that runs held, which two then does not"),
        ({"parts__two__reuse": {"plain": "two"}}, "must be a part that runs plain"),
        ({"reference": "plane"}, "reference must be of ['plain', 'held']; got 'plane'"),
        ({"every_step": ["plane"]}, "every_step must be of"),
        ({"finally": "paper"}, "finally must be a list of names"),
        ({"finally": [{"settings": ["paper"], "sample": 3}]}, "finally[0] must be of ['settings', 'samples',"),
        ({"finally": [{"samples": 3}]}, "finally[0].settings must be a list of names"),
        ({"finally": [{"settings": ["paper"], "checkpoints": 0}]}, "finally[0] must evaluate at least 1"),
        ({"parts__one__model": "wide"}, "parts.one.model must be of []; got 'wide'"),
        ({"models": {}}, "models must have names"),
        (
            {"questions": {"a": {"of": ["one", "plain"], "against": ["three", "held"]}}},
            "questions.a.against must be of",
        ),
        (
            {"questions": {"a": {"of": ["one", "gold"], "against": ["one", "held"]}}},
            "questions.a.of must be of ['plain',",
        ),
        ({"questions": {"a": {"of": ["one"], "against": ["one", "held"]}}}, "questions.a.of must be [PART, ARM]"),
        ({"questions": {"a": {"off": ["one"]}}}, "questions.a must be of ['of', 'against']; got 'off'"),
        ({"rules": {"margin": 0}}, "rules.margin must be a number above 0; got 0"),
        ({"rules": {"window": 2.5}}, "rules.window must be a whole number"),
        ({"rules": {"setting": 3}}, "rules.setting must be the name of a sampling setting; got 3"),
        (
            {"rules": {"windows": 2}},
            "rules must be of ['setting', 'window', 'margin', 'plateau_rise', 'plateau_steps']",
        ),
        ({"after": 1.5}, "after must be a whole number"),
        ({"pass_at": [0]}, "pass_at must be at least 1"),
        ({"curve_steps": 0}, "curve_steps must be at least 1"),
        ({"curve_steps": 2.5}, "curve_steps must be a whole number"),
        ({"parts": {}}, "parts must have names"),
    ],
)
def test_a_protocol_that_cannot_be_used_is_refused(written, changes, words):
    with pytest.raises(ValueError, match="mine") as refused:
        load_protocol(written(**changes))
    assert words in str(refused.value)


# That of controllers, which takes longest, is planned in tests/cli.
@pytest.mark.parametrize("name", sorted({*described_presets(STUDIES)} - {"controllers"}))
def test_shipped_protocols_can_be_run(name):
    assert plan(load_protocol(name), Path("out"))


def test_an_unknown_protocol_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'controllers'"):
        load_protocol("controlers")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="must be YAML"):
        load_protocol(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepz": 3}, "stepz"),
        ({"algorithm": {"filter": "algoritm1"}}, "algoritm1"),
        ({"band": {"schedule": "square", "options": {"period": 2.0}}}, "period=2.0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_part_and_arm(written, settings, words):
    protocol = load_protocol(written(parts__one__settings=settings))
    with pytest.raises(ValueError, match="part one, arm plain: ") as refused:
        plan(protocol, Path("out"))
    assert words in str(refused.value)


def test_unknown_final_settings_are_refused(written):
    with pytest.raises(ValueError, match=r"mine: finally: evaluation.settings must be of .*'papier'"):
        plan(load_protocol(written(**{"finally": ["papier"]})), Path("out"))


def test_a_setting_that_verdicts_are_of_must_be_evaluated(written):
    """Else no question would ever be decided, without a word."""
    with pytest.raises(ValueError, match=r"rules.setting must be evaluated by every run.*got 'papier', and part one"):
        plan(load_protocol(written(rules={"setting": "papier"})), Path("out"))


def test_checkpoints_to_evaluate_must_be_saved(written):
    final = [{"settings": ["paper"], "checkpoints": 2}]
    with pytest.raises(ValueError, match=r"checkpoints=2 must be saved by every run; got part one, arm plain"):
        plan(load_protocol(written(**{"finally": final})), Path("out"))


def test_runs_start_from_the_parts_model(written):
    protocol = load_protocol(written(models={"wide": {"hidden": 96}}, parts__two__model="wide"))
    paths = {run.part: run.config.model.path for run in plan(protocol, Path("out"))}
    assert paths == {"one": "countdown-0.2m", "two": "out/models/wide"}


def test_an_unknown_choice_is_refused(written):
    protocol = load_protocol(written())
    for choice, words in (
        (Choice(parts=["tow"]), r"--parts must be of \['one', 'two'\]; got 'tow'"),
        (Choice(arms=["gold"]), "--arms must be of"),
        (Choice(seeds=[7]), r"--seeds must be of \['0', '1', '4'\]"),
    ):
        with pytest.raises(ValueError, match=words):
            plan(protocol, Path("out"), choice)


def test_a_folder_with_another_run_is_refused(written, tmp_path):
    runs = plan(load_protocol(written()), tmp_path / "out", Choice(parts=["one"]))
    for run in runs[:2]:
        run.path.mkdir(parents=True)
        (run.path / "config.yaml").write_text(as_yaml(replace(run.config, output=Path("elsewhere"))))
    assert list(differing(runs)) == []  # where a run lies makes no difference
    other = replace(runs[1].config, steps=4, log=replace(runs[1].config.log, tensorboard=False))
    (runs[1].path / "config.yaml").write_text(as_yaml(other))
    with pytest.raises(ValueError, match=r"run=one/held/seed1.*steps: 4 -> 3 \(1 of 3 runs differ\)\. Put"):
        check_runs(runs)
    (runs[1].path / "config.yaml").write_text(as_yaml(replace(other, steps=3)))
    check_runs(runs)  # what is logged is no other run
