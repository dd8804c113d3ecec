"""The session's folder of shuffles: one a process, and none of a process that is gone."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from privacy_platform import settings
from privacy_platform.engine.session import prepare_environment, spark_config
from privacy_platform.processes import has_ended, this_process


def test_shuffles_of_dead_processes_are_removed_and_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv("SPARK_LOCAL_DIRS", raising=False)
    script = "from privacy_platform.processes import this_process; print(this_process())"
    dead = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    living, reused = this_process(), f"{platform.node()}_{os.getpid()}_1.00"
    elsewhere = f"not-{dead}"
    for name in (dead, living, reused, elsewhere, "kept"):
        (tmp_path / "spark" / name / "blockmgr-1").mkdir(parents=True)
    prepare_environment()
    assert {path.name for path in (tmp_path / "spark").iterdir()} == {living, elsewhere, "kept"}
    assert spark_config()["spark.local.dir"] == str(tmp_path / "spark" / living)


def test_only_what_surely_was_a_process_of_this_machine_has_ended() -> None:
    assert has_ended(f"{platform.node()}_{os.getpid()}_1.00")
    for name in (this_process(), "", "x", f"{platform.node()}_", f"{platform.node()}_x_1.00", f"{platform.node()}_1"):
        assert not has_ended(name)
