"""The lock of the broker's jars, and what becomes of jars that are not those locked."""

import hashlib
from pathlib import Path

import pytest

from privacy_platform.streaming import jars


def test_the_lock_is_whole() -> None:
    locked = jars.locked()
    names = {jar.name for jar in locked}
    assert {"kafka_2.13", "kafka-clients", "scala-library", "log4j-slf4j-impl", "log4j-core"} <= names
    assert len(names) == len(locked), "one version of each"
    assert all(len(bytes.fromhex(jar.sha256)) == hashlib.sha256().digest_size for jar in locked)


def _serve(repository: Path, jar: jars.Jar, content: bytes) -> None:
    place = repository / jar.group.replace(".", "/") / jar.name / jar.version
    place.mkdir(parents=True)
    (place / jar.file).write_bytes(content)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, jars.Jar]:
    """A mirror of Maven Central on this disk, and a lock of one jar."""
    jar = jars.Jar("org.example", "tiny", "1.0", hashlib.sha256(b"jar").hexdigest())
    monkeypatch.setattr(jars, "locked", lambda: [jar])
    monkeypatch.setenv(jars.MIRROR_VARIABLE, (tmp_path / "mirror").as_uri())
    return tmp_path / "mirror", jar


def test_jars_come_from_the_mirror_once(repository: tuple[Path, jars.Jar], tmp_path: Path) -> None:
    mirror, jar = repository
    _serve(mirror, jar, b"jar")
    found = jars.obtain(tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in found.iterdir()} == {"tiny-1.0.jar": b"jar"}
    (mirror / "org").rename(mirror / "gone")
    assert jars.obtain(tmp_path / "kept") == found


def test_an_altered_jar_is_refused_and_nothing_stays(repository: tuple[Path, jars.Jar], tmp_path: Path) -> None:
    mirror, jar = repository
    _serve(mirror, jar, b"jar with a surprise")
    with pytest.raises(jars.JarError, match=r"tiny-1\.0\.jar is not the file that was locked"):
        jars.obtain(tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [".fetch.lock"]


def test_what_to_do_when_they_cannot_be_fetched(repository: tuple[Path, jars.Jar], tmp_path: Path) -> None:
    with pytest.raises(jars.JarError, match=jars.MIRROR_VARIABLE):
        jars.obtain(tmp_path / "kept")
