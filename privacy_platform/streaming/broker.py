"""The embedded Kafka broker: one node (KRaft) from the jars of `kafka-jars.lock`, everything else under one home.

Contract: `start` is idempotent and safe to call from many processes at once; the broker outlives the process that
started it, listens on 127.0.0.1 only, and asks for a password (SASL PLAIN) even there, since a topic holds what people
did in clear. What was acknowledged is there after a restart, also after `kill -9`. Its port stays the same as long as
it is free. Its log holds no message.

Layout in `<home>/kafka`: `broker.json` (ports, password, process; mode 600), `server.properties`, `data`, `server.log`,
`jars` (see `jars`).
"""

import base64
import fcntl
import json
import os
import secrets
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from privacy_platform.locks import exclusive
from privacy_platform.streaming import jars
from privacy_platform.streaming.client import VARIABLE_PREFIX, ClientSettings, StreamingError
from privacy_platform.streaming.topics import PARTITIONS

PORT_VARIABLE = f"{VARIABLE_PREFIX}PORT"
HOST = "127.0.0.1"
USER = "platform"
LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
_LISTENER = "CLIENTS"
_CONTROLLER = "CONTROLLER"
_ENTROPY_BYTES = 24
_JVM = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData",
        "-Djava.awt.headless=true")  # fmt: skip
_LOGGING = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = server.log
appender.file.filePattern = server.log.1
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p %c{1}: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 8MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 1
appender.file.strategy.fileIndex = min
"""


@dataclass(frozen=True)
class _State:
    """What is kept between starts."""

    port: int = 0
    controller_port: int = 0
    password: str = field(default="", repr=False)
    pid: int = 0
    created: float = 0.0


@dataclass(frozen=True)
class Broker:
    """A running broker: its home, port and process, and how a client gets in."""

    home: Path
    port: int
    pid: int
    client: ClientSettings


def start(home: Path, *, port: int | None = None, seconds: float = 90.0) -> Broker:
    """Make the broker of `home` run and answer; returns at once when it already does.

    Args:
        home: The state directory; created when missing.
        port: Where clients connect on 127.0.0.1; by default `PRIVACY_PLATFORM_KAFKA_PORT`, else the last one if it is
            free, else a free one.
        seconds: The longest wait for it to answer (recovery after a crash counts; fetching the jars does not).

    Raises:
        StreamingError: it cannot be prepared or started, or runs on another port than the one asked for.
        JarError: its jars or Java cannot be had.
        LockError: another process has held the lock of this broker for too long.
    """
    home = home.expanduser().resolve()
    wanted = port if port is not None else _configured_port()
    with exclusive(home, "kafka", seconds=seconds + 600):
        running = status(home)
        if running is not None and wanted not in (None, running.port):
            raise StreamingError(
                f"Kafka already runs on port {running.port}, not {wanted}; stop it by `privacy-platform kafka down`."
            )
        if running is None or not _comes_to_answer(running, seconds):
            running = _start_locked(home, wanted, seconds)
            if not _comes_to_answer(running, seconds):
                raise StreamingError(
                    f"Kafka ended while it started (is port {running.port} in use?); "
                    f"see server.log and server.out in {_folder(home)}."
                )
    return running


def stop(home: Path, *, seconds: float = 60.0) -> bool:
    """Stop the broker of `home` in order, by force when it does not end in `seconds`; False when none was running."""
    home = home.expanduser().resolve()
    if _process(_read(home)) is None:
        return False
    with exclusive(home, "kafka", seconds=seconds + 60):
        process = _process(_read(home))
        if process is None:
            return False
        try:
            process.terminate()
            process.wait(timeout=seconds)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout=seconds)
        except psutil.NoSuchProcess:
            pass
    return True


def status(home: Path) -> Broker | None:
    """The broker of `home` when its process lives and its port is open, else None. Starts and changes nothing."""
    home = home.expanduser().resolve()
    state = _read(home)
    if _process(state) is None or not _accepts(state.port):
        return None
    return _broker(home, state)


# --- starting -------------------------------------------------------------------------------------------------


def _start_locked(home: Path, wanted: int | None, seconds: float) -> Broker:
    classpath = f"{jars.obtain()}/*"
    folder = _folder(home)
    state = _read(home)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        _end_leftover(folder, state, seconds)
        state = replace(
            state,
            port=_port(wanted) if wanted else _free_port(state.port),
            controller_port=_free_port(state.controller_port),
            password=state.password or secrets.token_urlsafe(_ENTROPY_BYTES),
        )
        _write(folder / "server.properties", _properties(home, state))
        _write(folder / "log4j2.properties", _LOGGING)
        _write_state(home, state)
        _format(folder, classpath)
        process = _launch(folder, classpath)
        state = replace(state, pid=process.pid, created=process.create_time())
        _write_state(home, state)
    except OSError as error:
        raise StreamingError(
            f"Cannot prepare Kafka in {folder}: {error.strerror}; run as the user who owns this home, or set "
            "PRIVACY_PLATFORM_HOME to another directory."
        ) from None
    return _broker(home, state)


def _end_leftover(folder: Path, state: _State, seconds: float) -> None:
    """End a broker that lives with its port closed, and wait until the storage is free.

    A killed process may look gone while its last threads still hold files and ports.
    """
    leftover = _process(state)
    if leftover is not None:
        leftover.kill()
    lock = folder / "data" / ".lock"
    deadline = time.monotonic() + seconds
    while lock.is_file() and not _unlocked(lock):
        if time.monotonic() > deadline:
            raise StreamingError(f"Another process works in {folder / 'data'}: end it, then try again.")
        time.sleep(0.05)


def _unlocked(lock: Path) -> bool:
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _comes_to_answer(broker: Broker, seconds: float) -> bool:
    """Wait until the broker answers; False when its process ends instead.

    An open port is not enough: the controller must be active before topics can be made.
    """
    deadline = time.monotonic() + seconds
    while not (_accepts(broker.port) and _answers(broker.client)):
        if _process(_read(broker.home)) is None:
            return False
        if time.monotonic() > deadline:
            raise StreamingError(
                f"Kafka does not answer after {seconds:.0f} s; see {_folder(broker.home) / 'server.log'}."
            )
        time.sleep(0.05)
    return True


def _answers(client: ClientSettings) -> bool:
    from kafka.errors import KafkaError

    try:
        admin = client.admin(bootstrap_timeout_ms=2_000)
    except StreamingError:
        return False
    try:
        return bool(admin.describe_cluster().get("brokers"))
    except KafkaError:
        return False
    finally:
        admin.close()


def _format(folder: Path, classpath: str) -> None:
    """Give new storage its identity; storage that has one is left alone."""
    if (folder / "data" / "meta.properties").is_file():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [jars.java(), *_jvm(folder), "-cp", classpath, "kafka.tools.StorageTool", "format"]
    command += [f"--cluster-id={cluster}", "--config=server.properties"]
    done = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, umask=0o077, timeout=120, check=False
    )
    if done.returncode != 0:
        raise StreamingError(
            f"Kafka's storage in {folder / 'data'} cannot be prepared: {(done.stderr or done.stdout).strip()[-500:]}"
        )


def _launch(folder: Path, classpath: str) -> psutil.Process:
    """Start the broker as nobody's child, in a session of its own, so that no signal to ours reaches it."""
    command = [jars.java(), *_jvm(folder), "-cp", classpath, "kafka.Kafka", "server.properties"]
    output = os.open(folder / "server.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        launched = subprocess.run(
            ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=folder,
            env=_environment(),
            umask=0o077,
            start_new_session=True,
            text=True,
            check=True,
        )
    finally:
        os.close(output)
    return psutil.Process(int(launched.stdout))


def _jvm(folder: Path) -> list[str]:
    return [
        *_JVM,
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        f"-XX:ErrorFile={folder / 'crash.log'}",
    ]


def _environment() -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _properties(home: Path, state: _State) -> str:
    """`server.properties`, written anew at every start: it always says what this version of the platform wants."""
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    password = state.password
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{state.controller_port}",
        "listeners": f"{_LISTENER}://{HOST}:{state.port},{_CONTROLLER}://{HOST}:{state.controller_port}",
        "listener.security.protocol.map": f"{_LISTENER}:SASL_PLAINTEXT,{_CONTROLLER}:SASL_PLAINTEXT",
        "inter.broker.listener.name": _LISTENER,
        "controller.listener.names": _CONTROLLER,
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN",
        **{
            f"listener.name.{name.lower()}.plain.sasl.jaas.config": f'{login} username="{USER}" password="{password}" '
            f'user_{USER}="{password}";'
            for name in (_LISTENER, _CONTROLLER)
        },
        "log.dirs": str(_folder(home) / "data"),
        "auto.create.topics.enable": "false",
        "num.partitions": str(PARTITIONS),
        "message.max.bytes": str(LARGEST_MESSAGE_BYTES),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # The controller takes a killed broker back when its session has run out, by default after 9 seconds.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "num.network.threads": "2",
        "num.io.threads": "4",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _configured_port() -> int | None:
    configured = os.environ.get(PORT_VARIABLE)
    if not configured:
        return None
    if not configured.isdigit() or not 0 < int(configured) < 65536:
        raise StreamingError(f"{PORT_VARIABLE} must be a port, 1 to 65535.")
    return int(configured)


def _port(wanted: int) -> int:
    if not _is_free(wanted):
        raise StreamingError(f"port {wanted} on {HOST} is in use: choose another one by --port or {PORT_VARIABLE}.")
    return wanted


def _free_port(preferred: int) -> int:
    """The preferred port when nobody has it, else one that the system gives."""
    if preferred and _is_free(preferred):
        return preferred
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    """Whether a server can have the port; connections that linger from before a restart do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError:
            return False
    return True


def _accepts(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        return probe.connect_ex((HOST, port)) == 0


# --- state ----------------------------------------------------------------------------------------------------


def _folder(home: Path) -> Path:
    return home / "kafka"


def _broker(home: Path, state: _State) -> Broker:
    security = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": USER,
        "sasl_plain_password": state.password,
    }
    return Broker(home, state.port, state.pid, ClientSettings(f"{HOST}:{state.port}", security))


def _process(state: _State) -> psutil.Process | None:
    """The living process of this state: number and beginning must fit, since numbers are used again."""
    try:
        process = psutil.Process(state.pid)
        gone = process.create_time() != state.created or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return None if gone else process


def _read(home: Path) -> _State:
    path = _folder(home) / "broker.json"
    try:
        return _State(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _State()
    except (OSError, ValueError, TypeError):
        raise StreamingError(f"{path} cannot be read, or is damaged: stop that broker, and remove the file.") from None


def _write_state(home: Path, state: _State) -> None:
    _write(_folder(home) / "broker.json", json.dumps(asdict(state), indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    """Write whole or not at all, readable by the owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
