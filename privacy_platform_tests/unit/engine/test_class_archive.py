"""The archive of Spark's classes is used where it is there, and never a reason to fail."""

import sys
from pathlib import Path

import psutil
import pytest

from privacy_platform.engine import class_archive
from privacy_platform.engine.class_archive import ClassArchiveError, archive, java_options, make


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python environment that has no archive yet."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_without_an_archive_java_is_told_of_none(environment: Path) -> None:
    assert java_options() == []


def test_an_archive_is_used_and_its_faults_are_not_told(environment: Path) -> None:
    archive().touch()

    assert java_options() == [
        f"-XX:SharedArchiveFile={environment}/spark-classes.jsa",
        "-Xshare:auto",
        class_archive.QUIET,
    ]


def test_a_path_that_would_end_the_option_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "my programs"
    prefix.mkdir()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    archive().touch()

    assert java_options() == []


def test_a_session_that_fails_leaves_the_archive_that_is_there(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive().write_text("of before")
    monkeypatch.setenv("JAVA_HOME", str(environment / "nowhere"))

    with pytest.raises(ClassArchiveError, match="no archive"):
        make()

    assert archive().read_text() == "of before"
    assert [path.name for path in environment.iterdir()] == [archive().name]


def test_a_session_that_takes_too_long_is_ended_with_all_it_started(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = environment / "java" / "bin" / "java"
    slow.parent.mkdir(parents=True)
    slow.write_text(f"#!/bin/sh\necho $$ > {environment}/started\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(environment / "java"))
    monkeypatch.setattr(class_archive, "_SECONDS", 20.0)

    with pytest.raises(ClassArchiveError, match="not ended within 20 s"):
        make()

    started = int((environment / "started").read_text())
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE
    assert not archive().exists()
