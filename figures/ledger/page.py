"""`paper_repro.md`: the claims with their numbers, what was tried, and what the paper's own models would take."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from figures.ledger.claims import FOLDER, SECTIONS, VERDICTS, Claim, load_claims, read
from figures.ledger.conditions import follows
from figures.ledger.measures import MEASURES, tables_of
from figures.ledger.number import Number, as_text
from figures.study import Data

DATA = "figures/data"
GALLERY = "figures/gallery.html"


@dataclass(frozen=True)
class Measured:
    """A claim with its numbers.

    Args:
        claim: its words.
        numbers: by name.
    """

    claim: Claim
    numbers: Mapping[str, Number]

    @property
    def disagreement(self) -> str:
        """The verdict that follows from the numbers where it is not the one written; "" where they agree."""
        if not self.claim.holds_if:
            return ""
        expected = follows(self.claim.holds_if, self.numbers)
        return "" if expected == self.claim.verdict else expected


def measured(claim: Claim, data: Data) -> Measured:
    """Return a claim with its numbers."""
    return Measured(claim, {number.name: MEASURES[number.use].make(data, **number.options) for number in claim.numbers})


def page_of(data: Data) -> tuple[str, list[Measured]]:
    """Return the page, and the claims whose verdict is not the one that follows from their numbers."""
    sections = {name: [measured(claim, data) for claim in claims] for name, claims in load_claims().items()}
    parts = [(FOLDER / "head.md").read_text(encoding="utf-8").rstrip(), overview(sections)]
    for name, rows in sections.items():
        parts.append(f"## {SECTIONS[name]}")
        parts += [block(row, data) for row in rows]
    parts += [full_scale(), tried()]
    disagreeing = [row for rows in sections.values() for row in rows if row.disagreement]
    return "\n\n".join(parts) + "\n", disagreeing


def overview(sections: Mapping[str, Sequence[Measured]]) -> str:
    """Return how many claims have each verdict, and a table of all."""
    claims = [row.claim for rows in sections.values() for row in rows]
    counts = Counter(claim.verdict for claim in claims)
    meanings = [f"| {name} | {counts[name]} | {meaning} |" for name, meaning in VERDICTS.items()]
    lines = [f"| [{claim.id}](#{claim.id.lower()}) | {claim.claim} | {claim.verdict} |" for claim in claims]
    return "\n".join(
        [
            "| verdict | claims | meaning |",
            "|---|---|---|",
            *meanings,
            "",
            "| | claim, in our words | verdict |",
            "|---|---|---|",
            *lines,
        ]
    )


def block(row: Measured, data: Data) -> str:
    """Return a claim's part of the page."""
    claim = row.claim
    lines = [f"### {claim.id}", "", f"{claim.claim} *({'; '.join(claim.where)})*", ""]
    lines += [f"- **{claim.verdict}**: {claim.why}"]
    lines += [f"- {number.label}: {as_text(row.numbers[number.name], number.form)}" for number in claim.numbers]
    files = dict.fromkeys(file for number in claim.numbers for file in tables_of(number.use, number.options))
    if files:
        lines.append(f"- From: {', '.join(source(file, data) for file in files)}")
    if claim.evidence:
        lines.append(f"- Shown by: {', '.join(f'`{file}`' for file in claim.evidence)}")
    if claim.picture:
        lines.append(f"- Picture or table: [`{claim.picture}`]({GALLERY}#{claim.picture})")
    larger = [run["name"] for run in read(FOLDER / "full_scale.yaml")["runs"] if claim.id in run["claims"]]
    if larger:
        lines.append(f"- [With the paper's models](#with-the-papers-models): {'; '.join(larger)}")
    if claim.commands:
        lines.append(f"- Again: {'; '.join(f'`{command}`' for command in claim.commands)}")
    return "\n".join(lines)


def source(file: str, data: Data) -> str:
    """Return a table's name, with the seed that its folder was made with where it is known."""
    known = data.provenance(file.rpartition("/")[0]) if "/" in file else {}
    return f"`{DATA}/{file}`" + (f" (seed {known['seed']})" if "seed" in known else "")


def full_scale() -> str:
    """Return the commands of the claims that need the paper's models, with what they would take."""
    found = read(FOLDER / "full_scale.yaml")
    lines = ["## With the paper's models", "", found["text"].strip(), ""]
    for row in found["runs"]:
        lines += [f"**{row['name']}** ({', '.join(row['claims'])}). {row['cost']} {row['expect']}", ""]
        lines += ["```bash", row["command"].strip(), "```", ""]
    return "\n".join(lines).rstrip()


def tried() -> str:
    """Return what was tried and did not help, newest first."""
    found = read(FOLDER / "tried.yaml")
    lines = [
        "## Tried, and did not help",
        "",
        found["text"].strip(),
        "",
        "| when | where | what | found |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row['date']} | {row['where']} | {row['what']} | {row['found']} |" for row in found["entries"]]
    return "\n".join(lines)
