"""`entrocraft figures build all`, from the committed tables."""

import re

import pytest

from figures import entry
from figures.gallery import ENTRIES


@pytest.fixture
def undrawn(monkeypatch):
    """Files without pictures: drawing them is most of the time, and what is drawn is tested elsewhere."""
    for name in ("save", "save_pdf"):
        monkeypatch.setattr(entry, name, lambda figure, path: path.write_bytes(b"picture"))


def test_all_is_made_of_the_committed_tables(command, tmp_path, undrawn):
    built = command("figures", "build", "all", "--out", tmp_path)
    assert built.code == 0, built.said
    page = (tmp_path / "gallery.html").read_text()
    for name, made in ENTRIES.items():
        assert name in built.printed
        assert f"entrocraft figures build {name}" in page
        files = list((tmp_path / "pictures").glob(f"{name}.*"))
        assert files or "Not drawn: " in page.split(f'id="{name}"')[1].split("<h3")[0]
        assert made.caption
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    assert all((tmp_path / link).is_file() for link in links)
    assert str(tmp_path) not in page


def test_what_is_missing_is_said_and_not_drawn(command, tmp_path, undrawn):
    folder = tmp_path / "tables"
    folder.mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "square_wave.png").write_text("of an earlier time")
    built = command("figures", "build", "square_wave", "--out", tmp_path, "--tables", folder)
    assert built.code == 0, built.said
    assert "Not drawn: the square part" in built.printed
    assert not list((tmp_path / "pictures").iterdir())


def test_the_same_tables_give_the_same_bytes(command, tmp_path):
    for place in ("first", "second"):
        assert command("figures", "build", "drift", "--out", tmp_path / place).code == 0
    for ending in ("png", "pdf"):
        first, second = (
            (tmp_path / place / "pictures" / f"drift.{ending}").read_bytes() for place in ("first", "second")
        )
        assert first == second
        assert len(first) > 10_000
    assert b"CreationDate" not in first


def test_wrong_calls(command, tmp_path):
    refused = command("figures", "build", "fig99", "--out", tmp_path)
    assert refused.code == 2
    assert "fig1_overview" in refused.said
    assert command("figures", "build", "all", tmp_path).code == 2
    assert command("figures", "build", "audit").code == 2
    (tmp_path / "runs.csv").write_bytes(b"\xff\xfe\x00")
    broken = command("figures", "build", "controllers", "--out", tmp_path, "--tables", tmp_path)
    assert broken.code == 1
    assert "must read CSV" in broken.said
