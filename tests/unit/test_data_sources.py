"""Files and hub data sets: what is read of each, and what is said of those that cannot be read."""

import csv
import sys

import pytest

from trainer.data.sources import read_source

datasets = pytest.importorskip("datasets")
ROWS = [
    {"problem": 'Say "a, b"\nand stop.', "answer": 7, "chat": [{"role": "user", "content": "é"}]},
    {"problem": "x", "answer": -2, "chat": [{"role": "user", "content": "y"}, {"role": "assistant", "content": "z"}]},
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where `datasets` keeps its copies: none is found that an earlier test left."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_parquet_keeps_values_and_conversations(tmp_path):
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(ROWS).to_parquet(path)
    assert read_source(str(path)) == ROWS


def test_csv_keeps_text_and_finds_numbers(tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["problem", "answer"], *([row["problem"], row["answer"]] for row in ROWS)])
    assert read_source(str(path)) == [{name: row[name] for name in ("problem", "answer")} for row in ROWS]


@pytest.mark.parametrize("name", ["broken.parquet", "broken.csv"])
def test_a_table_that_cannot_be_read_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b'a,b\n1,2\n1,2,3\n"x' + bytes(range(128, 256)))
    with pytest.raises(ValueError, match=rf"{name}'\) must be a readable \.\w+ file; got: .+ Mend it\."):
        read_source(str(path))


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("openai/gsm8k", ("openai/gsm8k", None, "train")),
        ("openai/gsm8k:test", ("openai/gsm8k", None, "test")),
        ("openai/gsm8k/main:train[:10]", ("openai/gsm8k", "main", "train[:10]")),
        ("owner/name-v1.5/a.b", ("owner/name-v1.5", "a.b", "train")),
    ],
)
def test_a_hub_data_set_is_asked_for_by_name_configuration_and_split(monkeypatch, source, called):
    asked = []

    def load_dataset(name, configuration, *, split):
        asked.append((name, configuration, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read_source(source) == ROWS
    assert asked == [called]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Config name is missing.\nPick a."),
        ConnectionError("Config name is missing."),
        datasets.exceptions.DatasetsError("Config name is missing."),
    ],
)
def test_a_hub_data_set_that_cannot_be_had_is_refused_by_name(monkeypatch, error):
    def load_dataset(*arguments, **options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        FileNotFoundError, match=r"'openai/gsm8k'.*got: Config name is missing\.( Pick a\.)? Check data\.pr"
    ):
        read_source("openai/gsm8k")


@pytest.mark.parametrize("source", ["train.parquet", "data/train.jsonl", "gsm8k", "./owner/name", "/a/b", "a/b/c/d"])
def test_what_is_no_hub_id_is_looked_for_on_disk_alone(monkeypatch, source):
    monkeypatch.setattr(datasets, "load_dataset", None)
    with pytest.raises(FileNotFoundError, match=r"got no such file\. Check data\.prompts"):
        read_source(source)


def test_a_file_of_another_kind_and_a_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "rows.txt").write_text("1 + 1")
    for source, got in (("rows.txt", "a file of another kind"), ("owner/name", "no such file")):
        with pytest.raises(FileNotFoundError, match=rf"\.jsonl, \.parquet, \.csv.*got {got}"):
            read_source(source)


def test_without_the_extra_json_lines_are_read_and_others_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "rows.csv").write_text("a\n1\n")
    assert read_source(str(tmp_path / "rows.jsonl")) == [{"a": 1}]
    for source in (str(tmp_path / "rows.csv"), "owner/name"):
        with pytest.raises(ImportError, match=r"Install entrocraft\[data\], or give a \.jsonl file"):
            read_source(source)
