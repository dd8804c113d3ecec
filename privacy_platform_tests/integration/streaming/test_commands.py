"""`privacy-platform kafka`, and the cluster that the environment names."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privacy_platform import settings
from privacy_platform.cli import app
from privacy_platform.streaming import broker
from privacy_platform.streaming.broker import Broker
from privacy_platform.streaming.client import VARIABLE_PREFIX, StreamingError
from privacy_platform.streaming.cluster import client_settings
from privacy_platform.streaming.topics import names


@pytest.fixture
def home(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The environment's home, without a broker; `kafka` has fetched the jars."""
    home = Path(tempfile.mkdtemp(prefix="pp-"))
    monkeypatch.setenv(settings.HOME_VARIABLE, str(home))
    try:
        yield home
    finally:
        broker.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def test_the_broker_s_commands(home: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["kafka", *words])
        assert result.exit_code == code, result.output
        return result.output

    assert json.loads(run("status", "--json", code=1)) == {"running": False}
    up = json.loads(run("up", "--json"))
    assert up["topics"] == {"user-events": {str(n): {"start": 0, "end": 0} for n in range(3)}}
    assert json.loads(run("up", "--json")) == json.loads(run("status", "--json")) == up
    assert "user-events" in run("status")
    assert "has stopped" in run("down")
    assert "was not running" in run("down")


def test_a_cluster_of_one_s_own_is_reached_by_sasl_from_the_environment(
    kafka: Broker, topic: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings arrive at a listener that asks for them; the embedded broker plays the cluster."""
    monkeypatch.setenv(f"{VARIABLE_PREFIX}BOOTSTRAP_SERVERS", kafka.client.bootstrap_servers)
    for name, value in kafka.client.security.items():
        monkeypatch.setenv(f"{VARIABLE_PREFIX}{name.upper()}", str(value))
    assert topic in names(client_settings())
    monkeypatch.setenv(f"{VARIABLE_PREFIX}SASL_PLAIN_PASSWORD", "guess")
    with pytest.raises(StreamingError, match="settings"):
        client_settings().admin(bootstrap_timeout_ms=1000)
