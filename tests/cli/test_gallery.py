"""`entrocraft figures build all`, from the committed tables."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from figures import entry
from figures.cli import figures_command
from figures.gallery import ENTRIES, source_of
from figures.study import COLUMNS, Data

KEYS = ("part", "arm", "seed", "step")
OF_STUDIES = [name for name, made in ENTRIES.items() if {"controllers", "long"} & set(made.sources)]


@pytest.fixture
def undrawn(monkeypatch):
    """Files without pictures: drawing them is most of the time, and what is drawn is tested elsewhere."""
    for name in ("save", "save_pdf"):
        monkeypatch.setattr(entry, name, lambda figure, path: path.write_bytes(b"picture"))


def test_all_is_made_of_the_committed_tables(command, tmp_path, undrawn):
    built = command("figures", "build", "all", "--out", tmp_path)
    assert built.code == 0, built.said
    page = (tmp_path / "gallery.html").read_text()
    for name, made in ENTRIES.items():
        assert name in built.printed
        assert f"entrocraft figures build {name}" in page
        files = list((tmp_path / "pictures").glob(f"{name}.*"))
        assert files or "Not drawn: " in page.split(f'id="{name}"')[1].split("<h3")[0]
        assert made.caption
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all((tmp_path / link).is_file() for link in links)
    assert str(tmp_path) not in page
    assert "simulations/drift</code> (entrocraft simulate drift --output runs/drift, commit " in page


def test_the_page_says_what_studies_numbers_are_of(tmp_path):
    known = {"study": "mine", "runs": 7, "runs_missing": ["a", "b"], "git_commits": {"0123456789abcdef": 7}}
    (tmp_path / "provenance.json").write_text(json.dumps(known))
    said = source_of("controllers", Data(tables=tmp_path))
    for word in ("study tables mine", "7 runs", "2 of its protocol missing", "commit 0123456789"):
        assert word in said


@pytest.fixture
def study(tmp_path):
    """Tables of a study with every part, two seeds and six arms, made up."""
    arms = ("grpo", "algorithm1", "soft", "soft_linear", "soft_too_high", "somebody_elses")
    keys = [
        {"part": part, "arm": arm, "seed": seed}
        for part in ("constant", "linear", "square", "long")
        for arm in arms
        for seed in (0, 1)
    ]
    draw = np.random.default_rng(0).uniform
    numbers = {
        name: [name for name in COLUMNS[name] if name not in ("part", "arm", "seed", "step")] for name in COLUMNS
    }
    runs = [{**key, **{name: draw(0.1, 1) for name in numbers["runs"]}, "steps": 60} for key in keys]
    curves = [
        {**key, "step": step, **{name: draw(0.1, 1) for name in numbers["curves"]}, "band_indicator": step // 5 % 3 - 1}
        for key in keys
        for step in range(0, 60, 5)
    ]
    evaluations = [
        {**key, "step": step, "setting": setting, "samples": 32, "entropy": 0.5, "distinct": 1.0, "counts": "0 3 32"}
        for key in keys
        for step in (20, 40, 60)
        for setting in ("t1", "paper")
    ]
    last = [row for row in evaluations if row["step"] == 60]
    differences = [
        {
            **key,
            "setting": "t1",
            "quantity": "pass@1",
            "comparison": way,
            "value": 0.1,
            "low": 0,
            "high": 0.2,
            "seeds": 2,
        }
        for key in keys
        for way in ("level", "same_samples", "same_entropy")
    ]
    tables = {"runs": runs, "curves": curves, "steps": curves, "comparison": differences}
    tables |= {"evaluations": evaluations, "final": last}
    ends = {"low": 0, "high": 0.2, "seeds_low": -0.1, "seeds_high": 0.3, "seeds": 2, "detectable": 0.2}
    sides = {"part": "constant", "arm": "soft", "against_part": "constant", "against": "grpo"}
    asked = {"question": "pays", **sides, "setting": "paper", **ends}
    tables["decision"] = [
        {**asked, "quantity": "pass@1", "comparison": "best", "value": 0.1, "verdict": "open"},
        {**asked, "quantity": "pass@32", "comparison": "end", "value": 0.1},
        {**asked, "quantity": "plateau", "comparison": "arm", "value": 40},
        {**asked, "quantity": "plateau", "comparison": "factor", "value": None},
    ]
    folder = tmp_path / "study"
    folder.mkdir()
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_a_whole_study_can_be_drawn(command, tmp_path, undrawn, study):
    for name in OF_STUDIES:
        built = command("figures", "build", name, "--out", tmp_path, "--tables", study)
        assert built.code == 0, (name, built.said)
        assert "Not drawn" not in built.printed
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == set(OF_STUDIES)


@pytest.mark.parametrize("kept", list(COLUMNS))
def test_part_of_a_study_can_be_drawn(command, tmp_path, undrawn, study, kept):
    for file in study.iterdir():
        if file.stem != kept:
            file.unlink()
    for name in OF_STUDIES:
        built = command("figures", "build", name, "--out", tmp_path, "--tables", study)
        assert built.code == 0, (name, built.said)


def test_what_is_missing_is_said_and_not_drawn(command, tmp_path, undrawn):
    folder = tmp_path / "tables"
    folder.mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "square_wave.png").write_text("of an earlier time")
    built = command("figures", "build", "square_wave", "--out", tmp_path, "--tables", folder)
    assert built.code == 0, built.said
    assert "Not drawn: the square part" in built.printed
    assert not list((tmp_path / "pictures").iterdir())


def test_the_same_tables_give_the_same_bytes(command, tmp_path):
    for place in ("first", "second"):
        assert command("figures", "build", "ledger_bars", "--out", tmp_path / place).code == 0
    for ending in ("png", "pdf"):
        first, second = (
            (tmp_path / place / "pictures" / f"ledger_bars.{ending}").read_bytes() for place in ("first", "second")
        )
        assert first == second
        assert len(first) > 10_000
    assert b"CreationDate" not in first


def test_runs_are_made_into_tables_first(tmp_path, undrawn, capsys):
    def tabulate(study, runs, output):
        assert (study, runs) == ("controllers", tmp_path / "runs")
        output.mkdir(parents=True)
        (output / "runs.csv").write_text("part,arm,seed,in_band_smooth\nconstant,nsr,0,0.95\n")

    call = ["build", "table1_properties", f"--out={tmp_path}", f"--from-runs={tmp_path / 'runs'}"]
    assert figures_command(call, tabulate) == 0
    assert "| NSR | yes (95 %) |" in (tmp_path / "pictures" / "table1_properties.md").read_text()
    assert "linear, square" in capsys.readouterr().out
    with pytest.raises(ValueError, match="without --tables"):
        figures_command([*call, f"--tables={tmp_path}"], tabulate)


def test_wrong_calls(command, tmp_path):
    refused = command("figures", "build", "fig99", "--out", tmp_path)
    assert refused.code == 2
    assert "fig1_overview" in refused.said
    assert command("figures", "build", "all", tmp_path).code == 2
    assert command("figures", "build", "audit").code == 2
    (tmp_path / "runs.csv").write_bytes(b"\xff\xfe\x00")
    broken = command("figures", "build", "controllers", "--out", tmp_path, "--tables", tmp_path)
    assert broken.code == 1
    assert "must read CSV" in broken.said
