"""The embedded broker: healthy when it returns, closed to strangers, and nothing acknowledged is lost."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from privacy_platform.streaming import broker
from privacy_platform.streaming.broker import Broker
from privacy_platform.streaming.client import ClientSettings, StreamingError
from privacy_platform.streaming.cluster import client_settings
from privacy_platform.streaming.topics import OffsetRange, available, ensure_topic

MESSAGE = b'{"user_id": "user-4711"}'


@pytest.fixture
def home(kafka: Broker) -> Iterator[Path]:
    """A home without a broker; `kafka` has fetched the jars."""
    home = Path(tempfile.mkdtemp(prefix="pp-"))
    try:
        yield home
    finally:
        broker.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def _send(cluster: ClientSettings, topic: str, count: int) -> None:
    producer = cluster.producer(acks="all")
    for future in [producer.send(topic, MESSAGE, b"key") for _ in range(count)]:
        future.get(timeout=60)
    producer.close()


def test_it_answers_when_start_returns_and_the_home_s_clients_find_it(kafka: Broker, topic: str) -> None:
    assert broker.start(kafka.home) == broker.status(kafka.home) == kafka
    assert client_settings() == kafka.client
    assert available(kafka.client, topic) == {number: OffsetRange(0, 0) for number in range(3)}
    _send(kafka.client, topic, 5)
    assert sum(r.messages for r in available(kafka.client, topic).values()) == 5
    ensure_topic(kafka.client, topic)  # An existing topic keeps its messages.
    assert sum(r.messages for r in available(kafka.client, topic).values()) == 5


def test_it_listens_on_the_loopback_address_alone(kafka: Broker) -> None:
    listening = [c.laddr for c in psutil.Process(kafka.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert kafka.port in {address.port for address in listening}
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "changed",
    [{"sasl_plain_password": "guess"}, {"security_protocol": "PLAINTEXT", "sasl_mechanism": None}],
    ids=["wrong password", "none"],
)
def test_nobody_gets_in_without_its_password(kafka: Broker, changed: dict[str, str]) -> None:
    stranger = ClientSettings(kafka.client.bootstrap_servers, {**kafka.client.security, **changed})
    with pytest.raises(StreamingError, match="cannot be used") as caught:
        stranger.admin(bootstrap_timeout_ms=1000)
    assert "guess" not in str(caught.value)


def test_what_it_writes_is_for_its_owner_and_tells_nothing(kafka: Broker, topic: str) -> None:
    _send(kafka.client, topic, 1)
    folder = kafka.home / "kafka"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    written = [path for path in folder.iterdir() if path.is_file()]
    assert {"broker.json", "server.properties", "server.log"} <= {path.name for path in written}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    password = str(kafka.client.security["sasl_plain_password"])
    for log in (folder / "server.log", folder / "server.out"):
        assert password not in log.read_text()
        assert "user-4711" not in log.read_text()
    assert password not in repr(kafka)
    assert password not in " ".join(psutil.Process(kafka.pid).cmdline())


def test_killed_and_started_again_it_has_its_messages_and_its_port(home: Path) -> None:
    first = broker.start(home)
    ensure_topic(first.client, "kept")
    _send(first.client, "kept", 100)
    os.kill(first.pid, signal.SIGKILL)
    second = broker.start(home)
    assert (second.port, second.client) == (first.port, first.client)
    assert second.pid != first.pid
    assert sum(r.messages for r in available(second.client, "kept").values()) == 100
    assert broker.stop(home)
    assert not broker.stop(home)
    assert broker.status(home) is None


def test_several_starters_get_one_broker(home: Path) -> None:
    code = "import sys, pathlib; from privacy_platform.streaming import broker; "
    code += "print(broker.start(pathlib.Path(sys.argv[1])).pid)"
    starters = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    pids = {starter.communicate(timeout=240)[0] for starter in starters}
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert len(pids) == 1
    running = broker.status(home)
    assert running is not None
    assert pids == {f"{running.pid}\n"}


def test_a_port_that_is_taken_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StreamingError, match=f"port {port}"):
            broker.start(home, port=port)


def test_no_broker_and_no_cluster_named(home: Path) -> None:
    with pytest.raises(StreamingError, match="kafka up"):
        client_settings(home)


def test_damaged_state_is_named(home: Path) -> None:
    (home / "kafka").mkdir()
    (home / "kafka" / "broker.json").write_text("{", encoding="utf-8")
    with pytest.raises(StreamingError, match=r"broker\.json .* damaged"):
        broker.start(home)
    (home / "kafka" / "broker.json").unlink()


def test_a_topic_that_does_not_exist(kafka: Broker) -> None:
    with pytest.raises(StreamingError, match="no topic nowhere"):
        available(kafka.client, "nowhere")
