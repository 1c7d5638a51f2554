"""The command `entrocraft theory`."""

import csv
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser


def derive_parser() -> ArgumentParser:
    """Return the parser of `entrocraft theory derive`."""
    parser = ArgumentParser(description="Derive the formulas step by step, check each step, and write text and LaTeX.")
    parser.add_argument("--output", type=Path, default=Path("runs/theory"), help="where derivation.txt and .tex go")
    return parser


def derive(output: Path) -> int:
    """Write the derivation, each step checked to 40 digits, into `output/derivation.txt` and `output/derivation.tex`.

    Raises:
        ValueError: a step or a counterexample fails its check; nothing is written.
    """
    from entropy_theory import symbolic

    sections, examples = symbolic.checked_sections(), symbolic.counterexamples()
    output.mkdir(parents=True, exist_ok=True)
    (output / "derivation.txt").write_text(symbolic.as_text(sections, examples))
    (output / "derivation.tex").write_text(symbolic.as_latex(sections, examples))
    for title, steps in sections.items():
        print(f"{title:38} {len(steps):3} steps, worst discrepancy {float(max(step.worst for step in steps)):.1e}")
    print(f"counterexamples verified: {', '.join(example.name for example in examples)}")
    print(f"derivation: {output / 'derivation.txt'}, {output / 'derivation.tex'}")
    return 0


def check_parser() -> ArgumentParser:
    """Return the parser of `entrocraft theory check`."""
    parser = ArgumentParser(
        description="Check every identity, inequality and order on fresh random inputs; exit code 1 if one fails."
    )
    parser.add_argument("--seed", type=int | None, default=None, help="of the inputs; drawn and printed by default")
    parser.add_argument("--device", default="cpu", help="a torch device with float64")
    return parser


def check(seed: int | None, device: str) -> int:
    """Print one line a check; return 1 if any failed, else 0."""
    import torch

    from entropy_theory.identities import check_all

    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"theory check(device={device!r}) must name a device of this machine that has float64. Say --device cpu."
        ) from error
    torch.set_num_threads(1)  # tensors this small are slower on several
    seed = secrets.randbelow(2**31) if seed is None else seed
    print(
        f"seed {seed}, float64, {device}; errors in nats unless said, slope = measured order of the error in the step"
    )
    print(f"{'':6} {'statement':70} {'worst error':>11} {'tolerance':>10} {'slope':>6}")
    failed = []
    for result in check_all(seed, device):
        slope = "" if result.slope is None else f"{result.slope:.3f}"
        verdict = "ok" if result.holds else "FAILED"
        print(f"{result.name:6} {result.says:70} {result.worst:11.1e} {result.tolerance:10.1e} {slope:>6} {verdict}")
        if not result.holds:
            failed.append(f"{result.name} ({result.says})")
    if failed:
        print(f"{len(failed)} failed: {'; '.join(failed)}. Repeat with --seed {seed}.", file=sys.stderr)
    return int(bool(failed))


def audit_parser() -> ArgumentParser:
    """Return the parser of `entrocraft theory audit`."""
    parser = ArgumentParser(
        description="Map where the paper's claims about one step hold, over random policies; write the tables as CSV. "
        "Exit code 1 if a number of the independent implementation is not reproduced within 5 standard errors."
    )
    parser.add_argument("--output", type=Path, default=Path("runs/theory/audit"), help="where the tables go")
    parser.add_argument("--seed", type=int, default=0, help="of all random policies")
    parser.add_argument("--overwrite", type=bool, default=False, help="replace tables that are there already")
    return parser


def audit(output: Path, seed: int, overwrite: bool) -> int:
    """Write one CSV a table into `output`, and print what they say.

    Raises:
        FileExistsError: tables are there already.
    """
    import torch
    from tqdm import tqdm

    from entropy_theory import audit as part

    files = {name: output / f"{name}.csv" for name in part.TABLES}
    there = [str(path) for path in files.values() if path.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"theory audit(output={str(output)!r}) must not replace tables; got {there[0]}. "
            "Choose another --output, or say --overwrite."
        )
    torch.set_num_threads(1)  # the same sums, to the last bit, on every machine of a kind
    rows: dict[str, list[Any]] = {name: [] for name in part.TABLES}
    names = {kind: name for name, kind in part.TABLES.items()}
    for cell in tqdm(part.audit(seed), total=part.cells(), desc="audit", unit="cell"):
        for row in cell:
            rows[names[type(row)]].append(row)
    output.mkdir(parents=True, exist_ok=True)
    unfinished = {path.with_suffix(".csv.unfinished"): path for path in files.values()}
    for name, path in zip(files, unfinished, strict=True):
        write_table(path, rows[name])
    # All are whole before one gets its name: tables of two seeds must not stand side by side.
    for path, final in unfinished.items():
        path.replace(final)
    for line in part.summary(rows):
        print(line)
    print(f"tables: {', '.join(str(path) for path in files.values())}")
    print(f"picture: entrocraft figures build audit {output}")
    return part.exit_code(rows)


def write_table(path: Path, rows: Sequence[Any]) -> None:
    """Write rows of one kind as CSV; numbers keep all their digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(rows[0])])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


# What each action is, its parser, and what it does with the parsed options.
ACTIONS: dict[str, tuple[str, Callable[[], ArgumentParser], Callable[..., int]]] = {
    "audit": ("map where the paper's claims about one step hold", audit_parser, audit),
    "check": ("check every identity and order on fresh random inputs", check_parser, check),
    "derive": ("write the derivation, step by step, every step checked", derive_parser, derive),
}


def theory_command(arguments: Sequence[str]) -> int:
    """Run `entrocraft theory ACTION`."""
    parser = ArgumentParser(prog="entrocraft theory", description="Derive, check and audit the theory.")
    actions = parser.add_subcommands(dest="action")
    for name, (text, options, _) in ACTIONS.items():
        actions.add_subcommand(name, options(), help=text)
    chosen: Any = parser.parse_args(list(arguments))
    _, _, act = ACTIONS[chosen.action]
    return act(**chosen[chosen.action].as_dict())
