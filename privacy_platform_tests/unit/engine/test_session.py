"""The session's settings, its folder of shuffles, and what workers are told of the driver's environment."""

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from privacy_platform import settings
from privacy_platform.engine.session import MASTER_VARIABLE, ClusterError, prepare_environment, spark_config
from privacy_platform.engine.stage import Carried, carried_environment, enter_worker
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


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("scheme", ["spark", "sc"])
def test_a_cluster_that_does_not_answer_is_an_error_at_once(
    scheme: str, closed_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv(MASTER_VARIABLE, f"{scheme}://127.0.0.1:{closed_port}/;token=secret")
    with pytest.raises(ClusterError, match=rf"^No Spark answers at 127\.0\.0\.1:{closed_port}: .*{MASTER_VARIABLE}\.$"):
        prepare_environment()
    monkeypatch.setenv(MASTER_VARIABLE, f"{scheme}://cluster;token=secret")
    with pytest.raises(ClusterError, match=r"has no HOST:PORT: write spark://HOST:7077, or sc://HOST:15002\.$"):
        prepare_environment()


def test_a_connect_session_is_told_what_a_session_can_set_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MASTER_VARIABLE, "spark://127.0.0.1:7077")
    all_of_it = spark_config()
    monkeypatch.setenv(MASTER_VARIABLE, "sc://127.0.0.1:15002")
    connected = spark_config()
    assert connected.pop("spark.remote") == "sc://127.0.0.1:15002"
    assert connected.items() <= all_of_it.items()
    assert all(name.startswith("spark.sql.") for name in connected)
    assert all_of_it["spark.master"] == "spark://127.0.0.1:7077"
    assert "spark.driver.host" not in all_of_it


@pytest.mark.parametrize(("master", "wins"), [("local", "driver"), ("spark://127.0.0.1:7077", "worker")])
def test_on_a_cluster_a_workers_own_home_wins(master: str, wins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.HOME_VARIABLE, "/driver")
    monkeypatch.setenv(settings.LANDING_VARIABLE, "/shared")
    monkeypatch.setenv(MASTER_VARIABLE, master)
    carried = carried_environment()
    assert carried == Carried(
        carried.settings | {settings.HOME_VARIABLE: "/driver", settings.LANDING_VARIABLE: "/shared"}, master == "local"
    )
    monkeypatch.setattr("privacy_platform.engine.stage._OWN", {settings.HOME_VARIABLE: "/worker"})
    monkeypatch.setattr("privacy_platform.engine.stage._leave_garbage_to_spark", lambda: None)  # this is no worker
    monkeypatch.delenv(settings.LANDING_VARIABLE)
    enter_worker(carried)
    assert (str(settings.home()), str(settings.landing())) == (f"/{wins}", "/shared")
