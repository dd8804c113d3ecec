"""The jars of Kafka's broker: exactly those of `kafka-jars.lock`, fetched once, each checked against its SHA-256.

They come from Maven Central, or from the mirror that `DEFAULT_ARTIFACT_REPOSITORY` names (the variable Spark reads for
its own packages), through the Ivy inside PySpark: no build tool is needed. `scripts/lock_kafka_jars.py` makes the lock.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from xml.sax.saxutils import quoteattr

from privacy_platform import settings
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.locks import exclusive

FOLDER_VARIABLE = "PRIVACY_PLATFORM_KAFKA_JARS"
MIRROR_VARIABLE = "DEFAULT_ARTIFACT_REPOSITORY"
_LOCK_FILE = "kafka-jars.lock"


class JarError(PrivacyPlatformError):
    """The jars of the broker cannot be had."""


@dataclass(frozen=True)
class Jar:
    """One line of the lock: Maven coordinates and the digest of the file."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.name}-{self.version}.jar"


def locked() -> Sequence[Jar]:
    """The jars that make a broker: lines `group:name:version sha256`."""
    lines = files("privacy_platform.streaming").joinpath(_LOCK_FILE).read_text(encoding="utf-8").splitlines()
    entries = [line.replace(":", " ").split() for line in lines if line and not line.startswith("#")]
    return [Jar(group, name, version, sha256) for group, name, version, sha256 in entries]


def folder() -> Path:
    """Where fetched jars are kept: `PRIVACY_PLATFORM_KAFKA_JARS`, by default `kafka/jars` in the home."""
    configured = os.environ.get(FOLDER_VARIABLE)
    return Path(configured).expanduser().resolve() if configured else settings.home() / "kafka" / "jars"


def obtain(keep: Path | None = None) -> Path:
    """The directory that holds the locked jars and nothing else, fetched when it is not there yet.

    Safe from many processes at once; a directory that is there is whole.

    Raises:
        JarError: they cannot be fetched, or are not the files that were locked.
    """
    keep = keep or folder()
    jars = locked()
    place = keep / hashlib.sha256(repr(jars).encode()).hexdigest()[:16]
    if place.is_dir():
        return place
    with exclusive(keep, "fetch", seconds=600):
        if not place.is_dir():
            with tempfile.TemporaryDirectory(dir=keep, prefix="new-") as work:
                fetched = _fetch(jars, Path(work))
                _verify(jars, fetched)
                fetched.rename(place)
    return place


def java() -> str:
    """The program `java` that Spark would use, too.

    Raises:
        JarError: there is none.
    """
    at_home = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if os.environ.get("JAVA_HOME") else None
    program = str(at_home) if at_home and at_home.is_file() else shutil.which("java")
    if program is None:
        raise JarError("Kafka needs Java 17 or newer, and there is no `java`: install e.g. openjdk-17-jre-headless.")
    return program


def _fetch(jars: Sequence[Jar], work: Path) -> Path:
    (work / "ivysettings.xml").write_text(_ivy_settings(), encoding="utf-8")
    (work / "ivy.xml").write_text(_ivy_module(jars), encoding="utf-8")
    command = [java(), "-jar", str(ivy()), "-settings", str(work / "ivysettings.xml"), "-cache", str(work / "cache")]
    command += ["-ivy", str(work / "ivy.xml"), "-confs", "default"]
    command += ["-retrieve", f"{work}/jars/[artifact]-[revision].[ext]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    if done.returncode != 0:
        raise JarError(
            f"The jars of Kafka's broker could not be fetched (once, 40 MB): set {MIRROR_VARIABLE} to the address of a "
            f"mirror of Maven Central if this machine has one, or copy {work.parent} from a machine where it worked "
            f"and name it in {FOLDER_VARIABLE}. Ivy's last words:\n" + "\n".join(done.stdout.splitlines()[-5:])
        )
    return work / "jars"


def _verify(jars: Sequence[Jar], fetched: Path) -> None:
    for jar in jars:
        path = fetched / jar.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != jar.sha256:
            raise JarError(f"{jar.file} is not the file that was locked: the repository it came from altered it.")


def ivy() -> Path:
    """Ivy's jar in PySpark's wheel, found without importing PySpark."""
    spec = importlib.util.find_spec("pyspark")
    for location in (spec.submodule_search_locations or []) if spec else []:
        if found := sorted(Path(location).glob("jars/ivy-*.jar")):
            return found[-1]
    raise JarError("PySpark is not installed whole (its Ivy is missing): run make setup.")


def _ivy_settings() -> str:
    mirror = os.environ.get(MIRROR_VARIABLE)
    root = f" root={quoteattr(mirror)}" if mirror else ""
    # Without POMs: the lock already says all there is to fetch.
    resolver = f'<ibiblio name="main" m2compatible="true" usepoms="false"{root}/>'
    return f'<ivysettings><settings defaultResolver="main"/><resolvers>{resolver}</resolvers></ivysettings>'


def _ivy_module(jars: Sequence[Jar]) -> str:
    dependencies = "".join(
        f'<dependency org="{jar.group}" name="{jar.name}" rev="{jar.version}" conf="default" transitive="false">'
        f'<artifact name="{jar.name}" type="jar" ext="jar"/></dependency>'
        for jar in jars
    )
    return (
        '<ivy-module version="2.0"><info organisation="privacy-platform" module="kafka-broker"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
