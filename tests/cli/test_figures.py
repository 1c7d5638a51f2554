"""Figures and tables of finished runs."""

import json
import re
import shutil

import pytest

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def runs(tiny, plugins):
    """Two finished runs, the first of which evaluated the base model."""
    settings = {"reward.function": f"{plugins}:parity", "evaluation.prompts": "4"}
    other = {"algorithm.filter": "algorithm1", "band.start": "[0.01,0.02]", "seed": "1"}
    return [tiny({**settings, "evaluation.at_start": "true"}), tiny({**settings, **other})]


def named(run, folder, name):
    return shutil.copytree(run.path, folder / name)


def table_of(path):
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in path.read_text().splitlines()]
    assert set("".join(lines[1])) == {"-"}
    return lines[0], {line[0]: line[1:] for line in lines[2:]}


def test_two_runs_make_a_picture_and_a_table(runs, command, tmp_path):
    paths = [named(run, tmp_path, name) for run, name in zip(runs, ("plain", "with control"), strict=True)]
    built = command("figures", "build", "quickstart", *paths, f"--output={tmp_path / 'new' / 'place'}")
    assert built.code == 0, built.said
    picture = (tmp_path / "new" / "place" / "quickstart.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) > 20_000
    assert str(tmp_path / "new" / "place" / "quickstart.png") in built.printed
    header, cells = table_of(tmp_path / "new" / "place" / "quickstart.md")
    assert header == ["", "base model", "plain", "with control"]
    summaries = [json.loads((path / "summary.json").read_text()) for path in paths]
    assert cells["entropy at start (nats/token)"] == ["", *(f"{s['entropy_start']:.3f}" for s in summaries)]
    assert summaries[0]["accepted_fraction"] != summaries[1]["accepted_fraction"]
    assert cells["rollouts accepted"] == ["", *(f"{s['accepted_fraction']:.0%}" for s in summaries)]
    estimates = [row["estimates"]["pass@1"] for row in runs[0].evaluations if row["setting"] == "t1"]
    estimates.append(summaries[1]["evaluations"]["t1"]["pass@1"])
    expected = [f"{e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" for e in estimates]
    assert cells["pass@1, temperature 1"] == expected
    assert all(len(row) == 3 for row in cells.values())
    assert re.search(r"entropy at start .*0\.\d{3} +0\.\d{3}", built.printed)


def test_evaluations_without_the_name_of_their_set_are_read(runs, command, tmp_path):
    """As runs wrote them before there could be several sets."""
    path, tables = named(runs[0], tmp_path, "old"), []
    rows = [json.loads(line) for line in (path / "evaluations.jsonl").read_text().splitlines()]
    for left_out in ((), ("key", "set", "per_prompt")):
        lines = [json.dumps({name: value for name, value in row.items() if name not in left_out}) for row in rows]
        (path / "evaluations.jsonl").write_text("\n".join(lines) + "\n")
        built = command("figures", "build", "quickstart", path, f"--output={tmp_path / str(len(left_out))}")
        assert built.code == 0, built.said
        tables.append((tmp_path / str(len(left_out)) / "quickstart.md").read_text())
    assert tables[0] == tables[1]
    assert "pass@1, temperature 1" in tables[1]


def test_without_an_evaluated_base_model_there_is_no_column_of_it(runs, command, tmp_path):
    command("figures", "build", "quickstart", named(runs[1], tmp_path, "one"), f"--output={tmp_path}")
    assert table_of(tmp_path / "quickstart.md")[0] == ["", "one"]


def test_runs_of_one_name_keep_a_column_each(runs, command, tmp_path):
    paths = [named(run, tmp_path, f"{place}/grpo") for run, place in zip(runs, "ab", strict=True)]
    built = command("figures", "build", "quickstart", *paths, f"--output={tmp_path}")
    if built.code:
        assert "grpo" in built.said
        assert "name" in built.said
    else:
        header, _ = table_of(tmp_path / "quickstart.md")
        assert len(header) == 4
        assert len(set(header)) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": "1"},
        {"theory.enabled": "false", "evaluation.prompts": "4"},
        {},
        {"reward.function": "users_own:equal"},
        {"evaluation.settings": "[paper]", "evaluation.prompts": "4"},
        {"steps": "11"},
    ],
    ids=["one-step", "no-theory", "no-evaluation", "nothing-learnt", "one-setting", "longer-than-the-average"],
)
def test_runs_with_less_in_them_can_be_drawn(tiny, command, tmp_path, settings):
    run = tiny(settings)
    built = command("figures", "build", "quickstart", run.path, f"--output={tmp_path}")
    assert built.code == 0, built.said
    assert (tmp_path / "quickstart.png").read_bytes().startswith(PNG)
    assert table_of(tmp_path / "quickstart.md")[0][-1] == run.path.name


def test_an_unfinished_run_is_refused(runs, command, tmp_path):
    path = named(runs[0], tmp_path, "cut")
    (path / "summary.json").unlink()
    built = command("figures", "build", "quickstart", runs[1].path, path, f"--output={tmp_path / 'out'}")
    assert built.code == 1
    for word in (str(path), "finished run", "summary.json", "--resume"):
        assert word in built.said
    assert not (tmp_path / "out").exists()


def test_wrong_calls(runs, command, tmp_path):
    assert command("figures", "build", "quickstart").code == 2
    assert command("figures", "build", "slowstart", runs[0].path).code == 2
    assert command("figures", "build", "quickstart", tmp_path / "none").code == 1
