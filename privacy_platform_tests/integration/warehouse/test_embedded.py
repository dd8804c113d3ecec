import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from privacy_platform.warehouse import embedded
from privacy_platform.warehouse.credentials import read_credentials

ROOT = Path(embedded.__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="pp-"))
    try:
        yield path
    finally:
        embedded.stop(path)
        shutil.rmtree(path, ignore_errors=True)


def query(home: Path, statement: str, password: str | None = None) -> object:
    known = read_credentials(home).passwords["postgres"]
    with psycopg.connect(
        host=str(embedded.socket_directory(home)),
        port=embedded.PORT,
        user="postgres",
        dbname="postgres",
        password=known if password is None else password,
    ) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_starts_stops_and_starts_again(home: Path) -> None:
    assert embedded.status(home) is None
    server = embedded.start(home)
    assert embedded.start(home) == embedded.status(home) == server
    query(home, "CREATE TABLE kept AS SELECT 7 AS x")
    assert embedded.stop(home)
    assert embedded.status(home) is None
    assert not embedded.stop(home)
    again = embedded.start(home)
    assert again.pid != server.pid
    assert query(home, "SELECT x FROM kept") == 7


def test_asks_for_the_password_listens_on_no_port_and_is_closed_to_others(home: Path) -> None:
    embedded.start(home)
    with pytest.raises(psycopg.OperationalError):
        query(home, "SELECT 1", password="wrong")
    assert query(home, "SHOW listen_addresses") == ""
    assert query(home, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
    modes = {
        path: stat.S_IMODE((home / path).stat().st_mode)
        for path in ("secrets", "secrets/database.json", "postgres/run")
    }
    assert modes == {"secrets": 0o700, "secrets/database.json": 0o600, "postgres/run": 0o700}
    assert stat.S_IMODE(home.stat().st_mode) & 0o007 == 0
    assert read_credentials(home).passwords["postgres"] not in repr(read_credentials(home))


def test_no_value_of_a_failing_statement_reaches_the_log(home: Path) -> None:
    embedded.start(home)
    with pytest.raises(psycopg.Error):
        query(home, "SELECT 'alice@example.org'::int")
    with pytest.raises(psycopg.Error):
        query(
            home,
            "CREATE TABLE t (x text PRIMARY KEY);INSERT INTO t VALUES ('alice@example.org'), ('alice@example.org')",
        )
    embedded.stop(home)
    log = (home / "postgres" / "server.log").read_text()
    assert "shut down" in log
    assert "alice" not in log
    assert read_credentials(home).passwords["postgres"] not in log


def test_the_log_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.start(home)
    log = home / "postgres" / "server.log"
    monkeypatch.setattr(embedded, "LOG_LIMIT_BYTES", 100)
    embedded.start(home)
    assert log.stat().st_size == 0
    embedded.stop(home)
    assert "shut down" in log.read_text()


def test_recovers_from_a_killed_postmaster(home: Path) -> None:
    server = embedded.start(home)
    query(home, "CREATE TABLE kept AS SELECT 7 AS x")
    kill(server.pid)
    assert embedded.status(home) is None
    embedded.start(home)
    assert query(home, "SELECT x FROM kept") == 7


def test_recovers_from_a_process_number_given_to_another(home: Path) -> None:
    embedded.start(home)
    data = home / "postgres" / "data"
    lines = (data / "postmaster.pid").read_text().splitlines()
    embedded.stop(home)
    owner = data.stat()
    # A process of the very user PostgreSQL runs as: the case in which it would refuse to start.
    other = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=owner.st_uid, cwd="/")
    try:
        (data / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        os.chown(data / "postmaster.pid", owner.st_uid, owner.st_gid)
        server = embedded.start(home)
        assert server.pid != other.pid
        assert other.poll() is None
    finally:
        other.communicate()


def test_recovers_when_its_socket_was_removed(home: Path) -> None:
    server = embedded.start(home)
    (server.socket_directory / f".s.PGSQL.{embedded.PORT}").unlink()
    assert embedded.start(home).pid != server.pid
    assert query(home, "SELECT 1") == 1


def test_half_made_cluster_is_made_again(home: Path) -> None:
    (home / "postgres" / "new-dead" / "data").mkdir(parents=True)
    embedded.start(home)
    assert query(home, "SELECT 1") == 1
    assert not list((home / "postgres").glob("new-*"))


def test_a_cluster_without_its_passwords_or_of_another_version_is_refused(home: Path) -> None:
    embedded.start(home)
    embedded.stop(home)
    version = home / "postgres" / "data" / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(embedded.EmbeddedServerError, match="made by PostgreSQL 17"):
        embedded.start(home)
    version.write_text("18\n")
    (home / "secrets" / "database.json").rename(home / "secrets" / "moved.json")
    with pytest.raises(embedded.EmbeddedServerError, match="restore that file"):
        embedded.start(home)


def test_outlives_the_killed_process_group_that_started_it(home: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from privacy_platform.warehouse import embedded
        embedded.start(Path({str(home)!r}))
        print("ready", flush=True)
        time.sleep(60)
    """
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"ready\n"
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    assert embedded.status(home) is not None
    assert query(home, "SELECT 1") == 1


def test_a_long_path_gets_a_short_socket(home: Path) -> None:
    long = home / ("x" * 120)
    try:
        server = embedded.start(long)
        assert server.socket_directory.parent == Path("/tmp")
        assert stat.S_IMODE(server.socket_directory.stat().st_mode) == 0o700
        assert query(long, "SELECT 1") == 1
        embedded.stop(long)
        server.socket_directory.chmod(0o777)
        with pytest.raises(embedded.EmbeddedServerError, match="remove it"):
            embedded.start(long)
    finally:
        embedded.stop(long)
        shutil.rmtree(embedded.socket_directory(long), ignore_errors=True)


@pytest.mark.parametrize("shared", [Path("/"), Path("/tmp"), Path.home()])
def test_a_directory_that_others_use_is_no_home(shared: Path) -> None:
    before = shared.stat().st_mode
    with pytest.raises(embedded.EmbeddedServerError, match="PRIVACY_PLATFORM_HOME"):
        embedded.start(shared)
    assert shared.stat().st_mode == before


@as_root
def test_as_root_directories_above_become_passable_and_no_more(home: Path) -> None:
    above = home / "above"
    above.mkdir(mode=0o700)
    embedded.start(above / "home")
    try:
        assert query(above / "home", "SELECT 1") == 1
        assert stat.S_IMODE(above.stat().st_mode) == 0o701
        assert pwd.getpwuid((above / "home" / "postgres" / "data").stat().st_uid).pw_name == embedded.SYSTEM_USER
    finally:
        embedded.stop(above / "home")


@as_root
def test_as_an_ordinary_user(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    theirs = home / "theirs"
    theirs.mkdir()
    os.chown(theirs, nobody.pw_uid, nobody.pw_gid)
    home.chmod(0o711)
    # The interpreter may lie where only root can read it: all is imported before the rights are given up.
    script = f"""
        import os
        os.environ["PRIVACY_PLATFORM_HOME"] = {str(theirs / "home")!r}
        from privacy_platform import settings
        from privacy_platform.warehouse import connection, embedded, migrations
        os.setgroups([])
        os.setresgid({nobody.pw_gid}, {nobody.pw_gid}, {nobody.pw_gid})
        os.setresuid({nobody.pw_uid}, {nobody.pw_uid}, {nobody.pw_uid})
        try:
            migrations.ensure_warehouse()
            with connection.connect() as c:
                print(c.execute("SELECT session_user").fetchone()[0])
        finally:
            embedded.stop(settings.home())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "privacy_platform_pipeline", done.stderr
    assert stat.S_IMODE((theirs / "home").stat().st_mode) == 0o700
    assert (theirs / "home" / "postgres" / "data").stat().st_uid == nobody.pw_uid
