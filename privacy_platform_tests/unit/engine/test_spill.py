"""Batches left on disk for a later task: all of them come back, closed to others, and a failure leaves nothing."""

from pathlib import Path

import polars as pl
import pytest

from privacy_platform.engine.spill import FOLDERS_VARIABLE, Spill, remove, spilled

ROWS = pl.DataFrame({"name": ["anna", None, "ünal"], "count": [1, 2, None]})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    return tmp_path


def test_what_was_left_comes_back_in_its_order() -> None:
    with Spill() as spill:
        spill.add(ROWS)
        spill.add(ROWS.reverse())
    assert spill.path.stat().st_mode & 0o777 == 0o600
    frames = spilled(spill.path)
    assert frames is not None
    assert pl.concat(frames).equals(pl.concat([ROWS, ROWS.reverse()]))
    remove(spill.path)
    remove(spill.path)
    assert spilled(spill.path) is None


def left_after_a_failure() -> None:
    with Spill() as spill:
        spill.add(ROWS)
        raise RuntimeError


def test_a_failure_leaves_nothing(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        left_after_a_failure()
    assert not list(folder.iterdir())


class FullDisk:
    """What is left to be written, on a disk without room."""

    def close(self) -> None:
        Path("/dev/full").write_bytes(b"end")


def left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with Spill() as spill:
        spill.add(ROWS)
        # The library writes the end of the stream on closing.
        monkeypatch.setattr(spill, "_writer", FullDisk())


def test_a_disk_that_is_full_in_the_end_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        left_open(monkeypatch)
    assert not list(folder.iterdir())


def test_nothing_leaves_nothing(folder: Path) -> None:
    with Spill():
        pass
    assert not list(folder.iterdir())
