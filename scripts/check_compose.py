"""Checks docker-compose.yml without a container engine: its syntax, and the rules that keep it closed.

Exits non-zero with one line a fault: an unknown network, volume or service; a port not bound to the loopback
address; a service without a bounded restart or, when it stays up, without a health check; a literal secret; a Spark
worker that knows the administrator of the database, or not the pipeline's login.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

COMPOSE_FILE = Path(__file__).resolve().parent.parent / "docker-compose.yml"
_BOUNDED_RESTART = re.compile(r"on-failure:\d+")
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|KEYRING")
_WORKER_CLASS = "org.apache.spark.deploy.worker.Worker"
_ADMINISTRATOR, _PIPELINE = "PRIVACY_PLATFORM_DATABASE_URL", "PRIVACY_PLATFORM_DATABASE_URL_PIPELINE"
_REQUIRED_VARIABLE = re.compile(r"\$\{\w+:\?[^}]*\}")


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """One sentence for each rule that the file breaks."""
    services: Mapping[str, Any] = document["services"]
    waited_for_to_end = {
        name
        for service in services.values()
        for name, need in service.get("depends_on", {}).items()
        if need["condition"] == "service_completed_successfully"
    }
    for name, service in services.items():
        yield from (f"{name}: {fault}" for fault in _reference_faults(service, document))
        yield from (f"{name}: {fault}" for fault in _exposure_faults(service))
        if _WORKER_CLASS in service.get("command", []):
            yield from (f"{name}: {fault}" for fault in _worker_faults(service.get("environment", {})))
        if not _BOUNDED_RESTART.fullmatch(service.get("restart", "")):
            yield f"{name}: restart is not bounded (on-failure:N)"
        if "healthcheck" not in service and name not in waited_for_to_end:
            yield f"{name}: it stays up and has no health check"


def _reference_faults(service: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    networks = service.get("networks", [])
    if not networks:
        yield "it names no network, so it would join the default one"
    yield from (f"unknown network {n}" for n in networks if n not in document["networks"])
    yield from (f"unknown service {d}" for d in service.get("depends_on", {}) if d not in document["services"])
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        if not source.startswith((".", "/", "$")) and source not in document["volumes"]:
            yield f"unknown volume {source}"


def _exposure_faults(service: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"port {p} is not bound to 127.0.0.1" for p in service.get("ports", []) if not p.startswith("127.0.0.1:")
    )
    for variable, value in service.get("environment", {}).items():
        if _SECRET_NAME.search(variable) and not _REQUIRED_VARIABLE.fullmatch(str(value)):
            yield f"{variable} is not taken from a required variable of .env"
        if re.search(r"://[^:/@$]*:(?!\$\{\w+:\?)[^@]*@", str(value)):
            yield f"{variable} has a password that is not taken from a required variable of .env"


def _worker_faults(environment: Mapping[str, Any]) -> Iterator[str]:
    if _PIPELINE not in environment:
        yield f"a Spark worker needs {_PIPELINE}"
    if _ADMINISTRATOR in environment:
        yield f"a Spark worker has no use for {_ADMINISTRATOR}"


def main() -> None:
    """Check the file, print what is wrong, and exit by it."""
    found = list(faults(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))))
    for fault in found:
        sys.stderr.write(f"{COMPOSE_FILE.name}: {fault}\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
