"""`entrocraft theory audit` writes its tables once, repeats itself, and fails when the reference is not met."""

import csv
from dataclasses import fields, replace

import pytest

import entrocraft
from entropy_theory import audit, cli
from entropy_theory.audit import baseline, one_sided, policies, reproduction


@pytest.fixture
def small(monkeypatch):
    """The same audit on small vocabularies and few draws."""
    monkeypatch.setattr(policies, "VOCABULARIES", {4: 40, 20: 40})
    monkeypatch.setattr("entropy_theory.audit.sign_rule.VOCABULARIES", policies.VOCABULARIES)
    monkeypatch.setattr(baseline, "VOCABULARIES", {106: 8})
    monkeypatch.setattr(baseline, "SAMPLED", 2**10)
    monkeypatch.setattr(one_sided, "DRAWS", 500)
    rows = [replace(row, policies=2000) for row in reproduction.REFERENCES if row.vocabulary == 20]
    monkeypatch.setattr(reproduction, "REFERENCES", rows)


def run(folder, *further):
    return entrocraft.main(["theory", "audit", "--output", str(folder), *further])


def test_it_writes_every_table_with_every_column(small, tmp_path, capsys):
    assert run(tmp_path / "new" / "audit") == 0
    for name, kind in audit.TABLES.items():
        with (tmp_path / "new" / "audit" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == [field.name for field in fields(kind)], name
        assert all(value != "" for row in rows for value in row.values()), name
    printed = capsys.readouterr().out
    for words in ("reproduction", "half", "sign rule, zipf", "positives-only", "tie", "Theorem 2 at 512"):
        assert words in printed
    assert len(list((tmp_path / "new" / "audit").iterdir())) == len(audit.TABLES)


def test_it_yields_as_many_cells_as_it_says(small):
    assert sum(1 for _ in audit.audit(seed=3)) == audit.cells()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    for folder, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        assert run(tmp_path / folder, "--seed", seed) == 0
    for name in audit.TABLES:
        one, two, three = ((tmp_path / folder / f"{name}.csv").read_bytes() for folder in ("one", "two", "three"))
        assert one == two
        assert one != three, name


def test_tables_are_replaced_only_on_request(small, tmp_path, capsys):
    tmp_path.joinpath("tie.csv").write_text("mine")
    assert run(tmp_path) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tie.csv"]
    assert tmp_path.joinpath("tie.csv").read_text() == "mine"
    assert run(tmp_path, "--overwrite", "true") == 0
    assert tmp_path.joinpath("tie.csv").read_text() != "mine"


def test_tables_of_two_seeds_never_stand_side_by_side(small, tmp_path, monkeypatch):
    assert run(tmp_path, "--seed", "5") == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write, written = cli.write_table, []

    def full(path, rows):
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write(path, rows)

    with monkeypatch.context() as patch:
        patch.setattr(cli, "write_table", full)
        assert run(tmp_path, "--seed", "6", "--overwrite", "true") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".csv"} == before
    assert run(tmp_path, "--seed", "6", "--overwrite", "true") == 0
    assert {path.name for path in tmp_path.iterdir()} == set(before)


def test_a_reference_that_is_not_met_fails(small, tmp_path, monkeypatch):
    wrong = [replace(row, holds=1 - row.holds) for row in reproduction.REFERENCES]
    monkeypatch.setattr(reproduction, "REFERENCES", wrong)
    assert run(tmp_path / "audit") == 1
    assert (tmp_path / "audit" / "reproduction.csv").exists()
