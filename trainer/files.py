"""Writing to disk so that a kill or a power cut leaves the old file or the new one, never half of one."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file or folder in what the system refuses.

    Raises:
        OSError: in place of whatever said that something could not be written.
    """
    try:
        yield
    # The libraries that write tensors and tokenizers have exceptions of their own, the barest kind among them.
    except Exception as error:
        number = system_error(error)
        if number is None or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def system_error(error: Exception) -> int | None:
    """Return the system's number of an error, None where it has none.

    >>> system_error(Exception("I/O error: No space left on device (os error 28)"))
    28
    """
    if isinstance(error, OSError):
        return error.errno
    named = re.search(r"\(os error (\d+)\)", str(error))
    return int(named[1]) if named else None


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it when it is on the disk, remove it where something went wrong.

    Args:
        folder: the name that it gets. An empty folder may be there; the folders above it are made.

    Raises:
        OSError: it could not be written, or the name is taken.
    """
    place = folder.resolve()
    temporary = place.with_name(f"{place.name}.new")
    # A kill leaves one behind.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with writing(folder):
            yield temporary
            tree_to_disk(temporary)
            temporary.rename(place)
            to_disk(place.parent)
    except BaseException:
        # Where the disk is full, what was written is in the way.
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(file: Path, text: str) -> None:
    """Write a file under a temporary name and rename it."""
    temporary = file.with_name(file.name + ".new")
    with writing(file):
        temporary.write_text(text)
        to_disk(temporary)
        temporary.replace(file)
        to_disk(file.parent)


def write_json(file: Path, value: Any) -> None:
    """Write JSON, all of it or nothing."""
    write_text(file, json.dumps(value, indent=2, allow_nan=False) + "\n")


def append_json(file: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON line."""
    with writing(file), file.open("a") as stream:
        stream.write(json.dumps(row, allow_nan=False) + "\n")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder, which is made where it is not there, to this process until the block ends.

    Where the file system has no locks of folders, as some shared ones, nobody is kept out.

    Raises:
        FileExistsError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not locked(descriptor):
            raise FileExistsError(
                f"{str(folder)!r} must be written by one process at a time; got one that another process is writing. "
                "Wait until that has saved and stopped, or choose another folder."
            )
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Take the lock of an open file or folder, until its last copy is closed; return whether nobody else has it.

    On a file system without locks nobody has.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def complete_lines(file: Path) -> list[str]:
    """Return the lines of a file that end in a newline: a kill can leave half a line behind."""
    return [line[:-1] for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def to_disk(path: Path) -> None:
    """Return when the system has written this file, or this folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tree_to_disk(folder: Path) -> None:
    """Return when the system has written a folder and all that is in it."""
    for path in [*folder.rglob("*"), folder]:
        to_disk(path)
