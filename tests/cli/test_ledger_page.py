"""`paper_repro.md` is what `entrocraft figures ledger` writes, covers the paper, and names what exists."""

import re
import shlex
from pathlib import Path

import pytest

from figures.cli import figures_command
from figures.gallery import ENTRIES
from figures.ledger.claims import FOLDER as WORDS
from figures.ledger.claims import NOT_YET, load_claims, read
from figures.ledger.measures import tables_of
from figures.ledger.page import DATA, measured
from figures.study import Data

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "paper_repro.md"
CLAIMS = [claim for claims in load_claims().values() for claim in claims]
PLACES = [
    *(f"Figure {number}" for number in range(1, 9)),
    *(f"Table {number}" for number in range(1, 9)),
    *(f"disagreement {number}" for number in range(1, 8)),
    *("Theorem 1", "Theorem 2", "proof of Theorem 1", "proof of Theorem 2", "Assumption 1", "Algorithm 1"),
]
HEADLINES = {"H1": "4B", "H2": "four times longer", "H3": "50 %", "H4": "linear", "H5": "curve", "H6": "any advantage"}
COMMANDS = sorted(
    {command for claim in CLAIMS for command in claim.commands}
    | {line for run in read(WORDS / "full_scale.yaml")["runs"] for line in run["command"].strip().splitlines()}
    | {line.partition("#")[0].strip() for line in re.findall(r"^entrocraft .*", (WORDS / "head.md").read_text(), re.M)}
)


def test_the_page_is_current_and_every_verdict_follows_from_its_numbers(tmp_path, capsys):
    code = figures_command(["ledger", f"--output={tmp_path / 'page.md'}"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert (tmp_path / "page.md").read_bytes() == PAGE.read_bytes(), "Write it again: entrocraft figures ledger"


def test_the_command_says_which_verdict_does_not(tmp_path, capsys):
    """Tables in which Algorithm 1 holds its band in both seeds contradict `not yet`, and all that is short of them."""
    rows = [f"{part},algorithm1,{seed},0.95,0.5\n" for part in ("constant", "linear") for seed in (0, 1)]
    (tmp_path / "runs.csv").write_text("part,arm,seed,in_band_smooth,entropy_end\n" + "".join(rows))
    code = figures_command(["ledger", f"--tables={tmp_path}", f"--output={tmp_path / 'page.md'}"])
    assert code == 1
    assert re.search(r"^H5: written '.*', its numbers say 'holds'$", capsys.readouterr().out, re.M)
    assert "95% (seeds 0, 1)" in (tmp_path / "page.md").read_text()


def test_everything_in_the_paper_is_covered():
    where = {place for claim in CLAIMS for place in claim.where}
    covered = {place for place in PLACES if any(re.match(rf"{place}(?!\d)", found) for found in where)}
    assert set(PLACES) == covered
    assert all(words in next(c.claim for c in CLAIMS if c.id == name) for name, words in HEADLINES.items())


def test_what_claims_name_exists():
    """A table that is not there yet gives no number."""
    for claim in CLAIMS:
        files = {file for number in claim.numbers for file in tables_of(number.use, number.options)}
        if not all((ROOT / DATA / file).is_file() for file in files):
            assert any(number.value is None for number in measured(claim, Data()).numbers.values()), claim.id
        assert all((ROOT / file).is_file() for file in claim.evidence), claim.id
        assert not claim.picture or claim.picture in ENTRIES, claim.id
    runs = read(WORDS / "full_scale.yaml")["runs"]
    assert {name for run in runs for name in run["claims"]} <= {claim.id for claim in CLAIMS}
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", PAGE.read_text()):
        assert (ROOT / link).exists(), link


def test_verdicts_without_conditions_rest_on_something():
    """By hand are what needs other models, runs or tests; of a verdict on the paper itself something is named."""
    for claim in CLAIMS:
        if not claim.holds_if and claim.verdict not in (NOT_YET, "cannot be tested here"):
            assert claim.evidence or claim.numbers, claim.id


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command, understood):
    words = shlex.split(command)
    understood(words[words.index("entrocraft") + 1 :])
