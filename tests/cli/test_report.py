"""The page of runs: whole, of unfinished ones, of several, with anything in their texts."""

import json
import shutil
from html.parser import HTMLParser

import pytest

from figures.report_load import load_reported
from figures.report_numbers import PREDICTIONS, headline, number, predicted, r_squared, share, status

EMPTY = {"meta", "img", "line"}


class Page(HTMLParser):
    """Collects text and tags, and refuses elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.parts, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.parts.append(data)

    @property
    def text(self):
        return "".join(self.parts)


@pytest.fixture(scope="module")
def run(tiny, plugins):
    settings = {"reward.function": f"{plugins}:parity", "evaluation.prompts": "4", "evaluation.at_start": "true"}
    return tiny({**settings, "theory.second_order": "true", "steps": "4"})


@pytest.fixture(scope="module")
def bare(tiny):
    """Without theory, evaluations, samples of rollouts, or anything learnt."""
    return tiny({"theory.enabled": "false", "checkpoint.rollouts_every": "0", "reward.function": "users_own:equal"})


@pytest.fixture(scope="module")
def pair(run, bare, tmp_path_factory):
    """A folder with both, and something that is no run."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "table.md").write_text("no run")
    for each, name in ((run, "full"), (bare, "less")):
        shutil.copytree(each.path, folder / name)
    return folder


@pytest.fixture(scope="module")
def both(pair, command):
    """What the command wrote of both, and what it said."""
    said = command("report", pair / "full", pair / "less", f"--output={pair / 'new' / 'report.html'}")
    assert said.code == 0, said.said
    return Page((pair / "new" / "report.html").read_text(encoding="utf-8")), said


def reported(command, tmp_path, *paths):
    said = command("report", *paths, f"--output={tmp_path / 'report.html'}")
    assert said.code == 0, said.said
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_a_page_stands_alone(both, pair):
    page, said = both
    assert said.printed.endswith(f"report: {pair / 'new' / 'report.html'}\n")
    assert not {"script", "link", "iframe"} & set(page.seen)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert len(sources) > 12
    assert all(value.startswith("data:image/svg+xml;base64,") for value in sources)
    for title in ("Worth a look", "Numbers", "Entropy ledger", "Updates", "Held-out evaluation", "Completions"):
        assert title in page.text
    assert "full: finished, 4 steps" in page.text
    assert "mean over all completion tokens, rejected ones too" in page.text  # columns.json


def test_runs_are_compared(both):
    page, said = both
    assert "theory.enabledTrueFalse" in page.text
    assert "less: 100% of groups had all-equal rewards lately" in said.printed
    assert "100% of groups had all-equal rewards lately" in page.text


def test_a_folder_of_runs_stands_for_them_and_makes_the_same_bytes(both, pair, command, tmp_path):
    reported(command, tmp_path, pair)
    assert (tmp_path / "report.html").read_bytes() == (pair / "new" / "report.html").read_bytes()


def test_samples_hold_numbers_and_texts(both, run):
    page, _ = both
    assert all(row["completion"] in page.text for row in run.rollouts(3)[:12])
    assert "step 0: 3 of 4 prompts" in page.text


def test_the_numbers_are_those_of_the_summary(run):
    (loaded,) = load_reported([run.path])
    summary = json.loads((run.path / "summary.json").read_text())
    cells = headline([loaded])[loaded.name]
    assert cells["entropy, first step (nats/token)"] == number(summary["entropy_start"])
    assert cells["entropy, mean of the last 4 steps"] == number(summary["entropy_end"])
    assert cells["reward, mean of the last 4 steps"] == number(summary["reward_end"])
    assert cells["distance to the band's centre, RMSE (nats/token)"] == number(summary["band_rmse"])
    assert cells["steps in the band"] == share(summary["in_band"])
    assert cells["rollouts accepted"] == share(summary["accepted_fraction"])
    assert cells["sign rule right (probe tokens)"] == share(summary["sign_rule_agreement"])
    keys = dict(zip(PREDICTIONS, ("r2_first_order", "r2_second_order", "r2_tabular"), strict=True))
    for name, terms in PREDICTIONS.items():
        assert r_squared(predicted(loaded, terms)) == pytest.approx(summary[keys[name]], rel=1e-9), name


def test_a_run_with_little_in_it_that_has_not_finished(bare, command, copied, tmp_path):
    path = copied(bare)
    for name in ("summary.json", "environment.json", "columns.json"):
        (path / name).unlink()
    metrics = path / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:2]) + lines[2][:100])
    page = reported(command, tmp_path, path)
    assert "unfinished: 2 of 3 steps" in page.text
    for words in ("theory.enabled was false", "No step has a measured change", "None yet", "None written down"):
        assert words in page.text
    (path / "config.yaml").unlink()
    (loaded,) = load_reported([path])
    assert status(loaded) == "unfinished: 2 steps"


def test_texts_of_a_run_are_shown_as_they_are(command, tmp_path):
    path = tmp_path / "<b>$x_{$&amp;"
    (path / "rollouts").mkdir(parents=True)
    evil = "</pre><script>alert(1)</script>\x00\x1b\ud800 & \"'\u2028 <img src=x>"
    rows = [{"group": 0, "prompt": evil, "completion": evil + "x" * 2000, "reward": 1.0, "format": 0.5}] * 9
    (path / "rollouts" / "step_0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [{"step": step, "entropy": 0.5, "info": {"<i>own$": step}} for step in range(2)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    (path / "config.yaml").write_text("steps: 2\nnote: '</pre><script>'\n")
    page = reported(command, tmp_path, path)
    assert "script" not in page.seen
    assert ("src", "x") not in page.attributes
    assert "<b>$x_{$&amp;: unfinished: 2 of 2 steps" in page.text
    assert "</pre><script>alert(1)</script>\ufffd\ufffd\ufffd & \"'" in page.text
    assert "characters left out" in page.text
    assert "1 of its 9 completions left out" in page.text
    assert "format" in page.text
    assert "<i>own$" in page.text


def broken(path, name, text):
    (path / name).write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("metrics.jsonl", "", ["must get a run with a finished step"]),
        ("metrics.jsonl", '{"step": 0, "loss": 1.0}\n', ["must find entropy", "metrics.jsonl", "step, loss"]),
        ("metrics.jsonl", '{"step": 0, "entropy": "high"}\n', ["must find numbers", "metrics.jsonl"]),
        ("metrics.jsonl", '{"step": 0, "entropy": 1}\n{"st\n', ["must read JSON", "line 2 of", "metrics.jsonl"]),
        ("metrics.jsonl", "[1]\n", ["must read JSON objects", "line 1 of"]),
        ("summary.json", "{", ["must read JSON", "summary.json"]),
        ("config.yaml", "a: [", ["must read YAML", "config.yaml"]),
    ],
)
def test_files_that_cannot_be_read_are_named(run, command, copied, tmp_path, name, text, words):
    said = command("report", broken(copied(run), name, text), f"--output={tmp_path / 'x.html'}")
    assert said.code == 1
    assert all(word in said.said for word in words), said.said
    assert not (tmp_path / "x.html").exists()


def test_wrong_calls(run, command, tmp_path):
    assert command("report").code == 2
    none = command("report", tmp_path / "none")
    assert none.code == 1
    assert "must name a run directory, or a folder of them" in none.said
    twice = command("report", run.path, run.path / "." / "")
    assert twice.code == 1
    assert "each run once" in twice.said
    folder = command("report", run.path, f"--output={tmp_path}")
    assert folder.code == 1
    assert "must be a file" in folder.said
