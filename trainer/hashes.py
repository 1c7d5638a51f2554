"""SHA-256 lists: what a folder of model files held when it was written, in the format that `sha256sum -c` reads."""

import hashlib
from pathlib import Path

from trainer.files import write_text

HASH_FILE = "SHA256SUMS"


def write_hashes(folder: Path) -> None:
    """Record the SHA-256 of every file in the folder; the last line says how many there are."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / HASH_FILE)
    lines = [f"{file_hash(file)}  {file.relative_to(folder).as_posix()}" for file in files]
    write_text(folder / HASH_FILE, "\n".join([*lines, last_line(len(files))]) + "\n")


def damage(folder: Path) -> str | None:
    """Return what is wrong with a folder whose hashes were recorded, None where every file is as it was written.

    Files that were added later are no damage.
    """
    try:
        lines = (folder / HASH_FILE).read_text().splitlines()
        # A list that was cut short must not pass for a shorter one.
        if not lines or lines[-1] != last_line(len(lines) - 1):
            return f"{HASH_FILE} is cut short"
        for line in lines[:-1]:
            expected, _, name = line.partition("  ")
            if not (folder / name).is_file():
                return f"{name} is missing"
            if file_hash(folder / name) != expected:
                return f"{name} does not match its SHA-256"
    except FileNotFoundError:
        return f"{HASH_FILE} is missing"
    except (OSError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"
    return None


def last_line(count: int) -> str:
    """Return the comment that ends a whole list."""
    return f"# {count} files"


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
