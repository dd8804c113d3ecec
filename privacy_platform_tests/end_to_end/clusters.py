"""A real Spark cluster for tests: a standalone master, workers and a Connect server, each a process on 127.0.0.1.

Nothing but configuration makes it a cluster: the settings of the server mode (docker/spark/spark-defaults.conf) with a
secret, as docker/entrypoint.sh adds it. Workers have folders of their own and, like machines of their own, nothing of
the driver but the network and the landing folder. PostgreSQL answers by TCP, as a server of one's own does.
"""

import os
import re
import secrets
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.connection import DATABASE
from privacy_platform.warehouse.credentials import read_credentials
from privacy_platform_tests.end_to_end.homes import BIN, FOREIGN, ROOT, until

_HOST = "127.0.0.1"
# A JVM that lives for a minute is not worth compiling with care.
_JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k"
_MASTER = re.compile(r"Starting Spark master at (spark://[\w.]+:\d+)")


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


@dataclass
class Daemon:
    """A process of the cluster, and what it says."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, pattern: str) -> "re.Match[str]":
        """Wait until its log holds a pattern."""

        def look() -> "re.Match[str] | None":
            assert self.process.poll() is None, self.said()[-4000:]
            return re.search(pattern, self.said())

        found: re.Match[str] = until(look, seconds=600, what=f"{pattern} in {self.log}")
        return found

    def family(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Kill -9 the process and all that it has started, at once, as a machine that loses its power."""
        for each in self.family():
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait(timeout=30)


@dataclass
class Cluster:
    """A master, and the workers that were started."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    daemons: list[Daemon] = field(default_factory=list)
    master: str = ""
    _workers: int = 0

    def __post_init__(self) -> None:
        self._conf = self.folder / "conf"
        self._conf.mkdir(mode=0o700)
        defaults = (ROOT / "docker" / "spark" / "spark-defaults.conf").read_text()
        own = {
            "spark.authenticate.secret": secrets.token_hex(16),
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": _JAVA_OPTIONS,
            **self.settings,
        }
        path = self._conf / "spark-defaults.conf"
        path.touch(mode=0o600)
        path.write_text(defaults + "".join(f"{name} {value}\n" for name, value in own.items()))
        command = ("spark-class", "org.apache.spark.deploy.master.Master", "--host", _HOST, "--port", "0")
        started = self._start("master", *command, "--webui-port", "0")
        self.master = started.says(_MASTER.pattern).group(1)

    def client(self) -> dict[str, str]:
        """What a driver's environment needs, beside the master's address, to be let in."""
        return {"SPARK_CONF_DIR": str(self._conf), "SPARK_LOCAL_IP": _HOST}

    def worker(self, name: str, environment: Mapping[str, str]) -> Daemon:
        """A worker of one core, with folders and an environment of its own. It takes a moment to register."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        # Two names of one address: Spark takes them for two machines, and tries a slow task on another machine only.
        self._workers += 1
        host = (_HOST, "localhost")[self._workers % 2]
        command = ("spark-class", "org.apache.spark.deploy.worker.Worker", "--host", host, "--port", "0")
        own = {"SPARK_LOCAL_DIRS": str(folder / "scratch"), **environment}
        return self._start(
            name, *command, "--webui-port", "0", "--cores", "1", "--memory", "1g", "--work-dir", str(folder / "work"),
            self.master, environment=own,
        )  # fmt: skip

    def connect_server(self) -> tuple[Daemon, str]:
        """A Spark Connect server on this cluster, and its `sc://` address."""
        with socket.socket() as probe:
            probe.bind((_HOST, 0))
            port = probe.getsockname()[1]
        server = self._start(
            "connect", "spark-submit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
            "--master", self.master, "--conf", f"spark.connect.grpc.binding.address={_HOST}",
            "--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.ui.enabled=false",
            "spark-internal", environment={"SPARK_DAEMON_MEMORY": "512m"},
        )  # fmt: skip
        return server, f"sc://{_HOST}:{port}"

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.kill()

    def _start(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> Daemon:
        log = self.folder / f"{name}.log"
        variables = {"SPARK_DAEMON_MEMORY": "128m", "SPARK_DAEMON_JAVA_OPTS": _JAVA_OPTIONS, **self.client()}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env=_clean_environment() | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | variables
                | dict(environment or {}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.daemons.append(Daemon(process, log))
        return self.daemons[-1]


def postgres_by_tcp(home: Path) -> str:
    """Start a PostgreSQL of one's own that listens on 127.0.0.1; returns its administrator's URL."""
    embedded.start(home)
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port = probe.getsockname()[1]
    data = home / "postgres" / "data"
    owner = data.stat()
    other = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if owner.st_uid != os.geteuid() else {}
    command = [str(embedded.binaries() / "pg_ctl"), "restart", "-s", "-w", "-m", "fast", "-D", str(data)]
    with (home / "postgres" / "tcp.log").open("w+b") as log:
        done = subprocess.run(
            [*command, "-o", f"-c listen_addresses={_HOST} -c port={port}"],
            **other,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, (home / "postgres" / "tcp.log").read_text()
    password = read_credentials(home).passwords[embedded.SUPERUSER]
    return f"postgresql://{embedded.SUPERUSER}:{password}@{_HOST}:{port}/{DATABASE}"
