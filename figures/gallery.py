"""All figures and tables from the committed tables, and one page that shows them."""

import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from figures.entry import PICTURES, Entry, Written, write
from figures.own import (
    audit_panels,
    authority_map,
    comparison,
    controllers,
    decision,
    ledger_bars,
    positives_negatives,
    prediction,
    regimes,
    saturation,
    sign_rule_map,
    simulated,
    simulated_schedules,
    square_wave,
    table_condition,
    table_control,
    table_decision,
)
from figures.paper import (
    fig1_overview,
    fig2_likelihood,
    fig3_pass_at_k,
    fig4_schedules,
    fig5_long_run,
    fig6_baselines,
    fig7_effective_batch,
    fig8_too_high,
    table1_properties,
    table2_main,
    table3_progress,
    table_arithmetic,
    tables5_8_models,
)
from figures.study import Data

PAPER = (
    fig1_overview.ENTRY,
    fig2_likelihood.ENTRY,
    fig3_pass_at_k.ENTRY,
    fig4_schedules.ENTRY,
    fig5_long_run.ENTRY,
    fig6_baselines.ENTRY,
    fig7_effective_batch.ENTRY,
    fig8_too_high.ENTRY,
)
OWN = (
    sign_rule_map.ENTRY,
    audit_panels.ENTRY,
    positives_negatives.ENTRY,
    authority_map.ENTRY,
    ledger_bars.ENTRY,
    *simulated.ENTRIES,
    simulated_schedules.ENTRY,
    prediction.ENTRY,
    controllers.ENTRY,
    comparison.ENTRY,
    square_wave.ENTRY,
    saturation.ENTRY,
    regimes.ENTRY,
    decision.ENTRY,
)
TABLES = (
    table_control.ENTRY,
    table_decision.ENTRY,
    table_condition.ENTRY,
    table1_properties.ENTRY,
    table2_main.ENTRY,
    table3_progress.ENTRY,
    *tables5_8_models.ENTRIES,
    table_arithmetic.ENTRY,
)
SECTIONS = {"The paper's figures, in our testbed": PAPER, "Our own figures": OWN, "Tables": TABLES}
ENTRIES: dict[str, Entry] = {entry.name: entry for entries in SECTIONS.values() for entry in entries}
PAGE = "gallery.html"
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>entrocraft: figures and tables</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #333 }
img { max-width: 100%; border: 1px solid #ddd } h3 { margin: 2.5rem 0 .3rem }
.note { color: #a33b00 } .from { font-size: .85rem; color: #555 } code { background: #f3f3f3; padding: 0 .2em }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem }
td, th { border-bottom: 1px solid #ddd; padding: .2rem .6rem; text-align: left; white-space: nowrap }
</style></head><body>
<h1>Figures and tables</h1>
<p>Made by <code>entrocraft figures build all</code> from the small tables in <code>figures/data</code>;
<code>SOURCES.md</code> there says what they are. Nothing that is missing is made up: it is named in red.</p>
"""


def build_all(data: Data, out: Path, names: Sequence[str] = ()) -> list[Written]:
    """Make all entries, or those named, and for all the page; return what was written.

    Raises:
        ValueError: a table that cannot be read.
        FileNotFoundError: half of a folder of tables.
    """
    written = [write(ENTRIES[name], data, out) for name in names or ENTRIES]
    if not names:
        (out / PAGE).write_text(page_of(written, data))
    return written


def page_of(written: Sequence[Written], data: Data) -> str:
    """Return the page."""
    found = {item.entry.name: item for item in written}
    parts = [HEAD]
    for title, entries in SECTIONS.items():
        parts.append(f"<h2>{html.escape(title)}</h2>")
        parts += [section_of(found[entry.name], data) for entry in entries]
    return "\n".join([*parts, "</body></html>\n"])


def section_of(item: Written, data: Data) -> str:
    """Return an entry's part of the page: picture or table, caption, what is missing, sources and command."""
    entry = item.entry
    parts = [f'<h3 id="{entry.name}">{html.escape(entry.title)}</h3>', f"<p>{html.escape(entry.caption)}</p>"]
    parts += [f'<p class="note">{html.escape(note)}</p>' for note in item.notes]
    if "png" in item.files:
        parts.append(f'<img src="{PICTURES}/{entry.name}.png" alt="{html.escape(entry.title)}" loading="lazy">')
    if item.table is not None:
        parts.append(f'<div class="wide">{table_of(item.table)}</div>')
    links = [f'<a href="{PICTURES}/{file.name}">{ending}</a>' for ending, file in item.files.items()]
    sources = "; ".join(source_of(source, data) for source in entry.sources)
    command = f"<code>entrocraft figures build {entry.name}</code>"
    said = [" ".join(links), f"From: {sources}", command]
    parts.append(f'<p class="from">{" &middot; ".join(filter(None, said))}</p>')
    return "\n".join(parts)


def source_of(source: str, data: Data) -> str:
    """Return where numbers come from, with the command and the commits that made them where they are known."""
    known = data.provenance(source)
    made = [str(known["command"])] if "command" in known else []
    if "study" in known:
        made = [f"entrocraft study tables {known['study']}", f"{known['runs']} runs"]
        made += [f"{len(known['runs_missing'])} of its protocol missing"] if known.get("runs_missing") else []
    commits = [known["commit"]] if "commit" in known else list(known.get("git_commits", ()))
    made += [f"commit {str(commit)[:10]}" for commit in commits]
    made += [f"seed {known['seed']}"] if "seed" in known else []
    return f"<code>{html.escape(source)}</code>" + (f" ({html.escape(', '.join(made))})" if made else "")


def table_of(table: pd.DataFrame) -> str:
    """Return a table as HTML."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ["", *table.columns])
    rows = [
        "".join(f"<td>{html.escape(str(cell))}</td>" for cell in [name, *cells])
        for name, cells in zip(table.index, table.to_numpy(), strict=True)
    ]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
