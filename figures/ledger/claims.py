"""Claims of the paper as their YAML files say them: words, where the numbers come from, and the verdict by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from figures.ledger.conditions import Condition, condition_of

FOLDER = Path(__file__).parent / "words"
SECTIONS = {
    "headline": "Headline claims",
    "theory": "The theorems and how they are read",
    "explanations": "Explanations of what known methods do",
    "control": "Algorithm 1",
    "figures": "Figures",
    "tables": "Tables",
    "disagreements": "Where the paper disagrees with itself, with its code or with arithmetic",
}
HOLDS, IN_PART, DOES_NOT, OPEN, NOT_YET = "holds", "in part", "does not", "open", "not yet"
ELSEWHERE = "cannot be tested here"
VERDICTS = {
    HOLDS: "what was measured agrees with the claim",
    IN_PART: "one part of the claim, or under some conditions alone; the reason says which",
    DOES_NOT: "what was measured disagrees",
    ELSEWHERE: "needs the paper's weights and hardware; the commands are below",
    OPEN: "the runs are there, and their intervals leave it open",
    NOT_YET: "the runs that decide it are not there, or are of one seed",
}


@dataclass(frozen=True)
class Wanted:
    """A number that a claim quotes.

    Args:
        name: for conditions.
        label: for readers, with the unit.
        use: the function of `measures.MEASURES` that makes it.
        options: of that function.
        form: format of the number.
    """

    name: str
    label: str
    use: str
    options: Mapping[str, Any]
    form: str = ".3f"


@dataclass(frozen=True)
class Claim:
    """One claim.

    Args:
        id: short name.
        claim: in our words.
        where: places in the paper.
        why: reason of the verdict.
        verdict: one of `VERDICTS`, written by hand.
        commands: what makes the numbers again.
        numbers: quoted.
        holds_if: what the numbers must be for the claim to hold, a condition each of its parts.
        picture: entry of the gallery that shows it, "" for none.
        evidence: files that show it where no number can, such as tests.
    """

    id: str
    claim: str
    where: Sequence[str]
    why: str
    verdict: str
    commands: Sequence[str] = ()
    numbers: Sequence[Wanted] = ()
    holds_if: Sequence[Condition] = ()
    picture: str = ""
    evidence: Sequence[str] = ()


def load_claims(folder: Path = FOLDER) -> dict[str, list[Claim]]:
    """Return the claims by section.

    Raises:
        ValueError: an unknown key, verdict or number, or an id that is there twice.
    """
    sections = {name: [claim_of(row) for row in read(folder / f"{name}.yaml")] for name in SECTIONS}
    ids = [claim.id for claims in sections.values() for claim in claims]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ValueError(f"ledger claims(id={twice[0]!r}) must be there once; got it more than once. Rename one.")
    return sections


def read(file: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def claim_of(row: Mapping[str, Any]) -> Claim:
    """Return the claim of a row of a YAML file; raises as `load_claims` does."""
    known = {field.name for field in fields(Claim)}
    where = f"ledger claim(id={row.get('id')!r})"
    missing = {"id", "claim", "where", "why", "verdict"} - set(row)
    if missing or set(row) - known:
        wrong = sorted(missing) or sorted(set(row) - known)
        raise ValueError(f"{where} must have the keys {sorted(known)}; got {wrong[0]!r} missing or unknown. Mend it.")
    if row["verdict"] not in VERDICTS:
        raise ValueError(f"{where} must have a verdict of {list(VERDICTS)}; got {row['verdict']!r}. Choose one.")
    numbers = [wanted_of(name, options) for name, options in row.get("numbers", {}).items()]
    conditions = [condition_of(text) for text in row.get("holds_if", [])]
    unknown = {name for condition in conditions for name in condition.names} - {number.name for number in numbers}
    if unknown:
        raise ValueError(f"{where} must have conditions on its own numbers; got one on {sorted(unknown)[0]!r}. Add it.")
    plain = {name: value for name, value in row.items() if name not in ("numbers", "holds_if")}
    plain |= {name: " ".join(str(row[name]).split()) for name in ("claim", "why")}
    return Claim(**plain, numbers=numbers, holds_if=conditions)


def wanted_of(name: str, options: Mapping[str, Any]) -> Wanted:
    """Return the number of an entry of a claim's `numbers`."""
    own = {key: options[key] for key in ("label", "use", "form") if key in options}
    return Wanted(name, options={key: value for key, value in options.items() if key not in own}, **own)
