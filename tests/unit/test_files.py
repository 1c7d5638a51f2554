"""A folder is there whole or not at all, whatever happens while it is being filled, and is one process's at a time."""

import os
import subprocess
import sys

import pytest

from trainer import files
from trainer.files import held, new_folder


def test_a_folder_appears_when_it_is_whole(tmp_path):
    folder = tmp_path / "above" / "made"
    with new_folder(folder) as unfinished:
        (unfinished / "one.txt").write_text("1")
        assert not folder.exists()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "above",
        "above/made",
        "above/made/one.txt",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("wrong"), OSError(28, "full")])
def test_nothing_is_left_of_one_that_was_not_finished(tmp_path, error):
    def fill():
        with new_folder(tmp_path / "made") as unfinished:
            (unfinished / "one.txt").write_text("1")
            raise error

    with pytest.raises(error if isinstance(error, type) else type(error)):
        fill()
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_is_no_part_of_the_next(tmp_path):
    (tmp_path / "made.new").mkdir()
    (tmp_path / "made.new" / "old.txt").write_text("0")
    with new_folder(tmp_path / "made") as unfinished:
        (unfinished / "one.txt").write_text("1")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "one.txt"]


def test_an_empty_folder_is_filled_and_files_are_kept(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with new_folder(tmp_path / "link") as unfinished:
        (unfinished / "one.txt").write_text("1")
    assert (tmp_path / "empty" / "one.txt").read_text() == "1"

    def refill():
        with new_folder(tmp_path / "empty") as unfinished:
            (unfinished / "one.txt").write_text("2")

    with pytest.raises(OSError, match=os.strerror(39)):
        refill()
    assert (tmp_path / "empty" / "one.txt").read_text() == "1"
    assert not (tmp_path / "empty.new").exists()


HOLDS = """
import sys
from pathlib import Path
from trainer.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_one_processs_at_a_time(tmp_path):
    """It is free again when the block ends, and when the process is killed."""
    folder = tmp_path / "above" / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(FileExistsError, match=r"run' must be written by one process at a time"), held(folder):
            pass
        other.kill()
    for _ in range(2):
        with held(folder):
            (folder / "one.txt").touch()


def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch):
    def none(descriptor, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", none)
    with held(tmp_path), held(tmp_path):
        pass
