"""Clients of a Kafka cluster: where it is, how to prove who we are, and loggers that never tell a message.

`ClientSettings` is a value; `from_environment` reads it from `PRIVACY_PLATFORM_KAFKA_*`, whose names are those of
kafka-python's options. A secret may be given as a file (`…_FILE`) instead of a value.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from privacy_platform.errors import PrivacyPlatformError

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

VARIABLE_PREFIX = "PRIVACY_PLATFORM_KAFKA_"
BOOTSTRAP_VARIABLE = f"{VARIABLE_PREFIX}BOOTSTRAP_SERVERS"
CLIENT_ID = "privacy-platform"
_DEFAULTS = {"client_id": CLIENT_ID, "bootstrap_timeout_ms": 20_000}
_OPTIONS = frozenset({
    "security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name", "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_crlfile",
    "ssl_ciphers", "ssl_check_hostname",
})  # fmt: skip
_SECRETS = frozenset({"sasl_plain_password", "ssl_password"})
_OTHER_VARIABLES = frozenset({"BOOTSTRAP_SERVERS", "JARS", "PORT"})
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
T = TypeVar("T")


class StreamingError(PrivacyPlatformError):
    """Kafka cannot be reached, refuses, or is configured wrongly."""


@dataclass(frozen=True)
class ClientSettings:
    """A cluster and the way in: its bootstrap servers (`HOST:PORT,…`) and kafka-python's security options."""

    bootstrap_servers: str
    security: Mapping[str, str | bool] = field(default_factory=dict, repr=False)

    def admin(self, **options: Any) -> "KafkaAdminClient":
        """An administrator's client. The caller closes it.

        Raises:
            StreamingError: the cluster cannot be reached, or refuses us.
        """
        from kafka import KafkaAdminClient

        return self._client(KafkaAdminClient, options)

    def consumer(self, **options: Any) -> "KafkaConsumer":
        """A consumer without a group, which therefore commits nothing. The caller closes it.

        Raises:
            StreamingError: the cluster cannot be reached, or refuses us.
        """
        from kafka import KafkaConsumer

        defaults = {"group_id": None, "enable_auto_commit": False, "metrics_enabled": False}
        return self._client(KafkaConsumer, {**defaults, **options})

    def producer(self, **options: Any) -> "KafkaProducer":
        """A producer. The caller closes it.

        Raises:
            StreamingError: the cluster cannot be reached, or refuses us.
        """
        from kafka import KafkaProducer

        return self._client(KafkaProducer, {"metrics_enabled": False, **options})

    def _client(self, make: Callable[..., T], options: Mapping[str, Any]) -> T:
        from kafka.errors import KafkaError as ClientError

        pin_loggers()
        servers = self.bootstrap_servers.split(",")
        try:
            return make(bootstrap_servers=servers, **{**_DEFAULTS, **self.security, **options})
        except (ClientError, ValueError, OSError) as error:
            raise unusable(self, error) from None


def unusable(cluster: ClientSettings, error: Exception) -> StreamingError:
    """What to raise when a client of a cluster cannot be made."""
    # The words of the library may quote settings: its name for what happened is enough.
    return StreamingError(
        f"Kafka at {cluster.bootstrap_servers} cannot be used ({type(error).__name__}): is it running, and do the "
        f"settings {VARIABLE_PREFIX}… fit its listener?"
    )


def from_environment(environment: Mapping[str, str] = os.environ) -> ClientSettings | None:
    """The cluster that `PRIVACY_PLATFORM_KAFKA_BOOTSTRAP_SERVERS` names, or None where it names none.

    Raises:
        StreamingError: a variable has an unknown name, no truth value where one is wanted, or an unreadable file.
    """
    named = {
        name.removeprefix(VARIABLE_PREFIX): value
        for name, value in environment.items()
        if name.startswith(VARIABLE_PREFIX) and value
    }
    security = dict(_option(name, value) for name, value in named.items() if name not in _OTHER_VARIABLES)
    servers = named.get("BOOTSTRAP_SERVERS")
    if servers is None and security:
        raise StreamingError(f"Security settings of Kafka without a cluster: set {BOOTSTRAP_VARIABLE}, or unset them.")
    return None if servers is None else ClientSettings(servers, security)


def _option(name: str, value: str) -> tuple[str, str | bool]:
    option = name.lower()
    if option.removesuffix("_file") in _SECRETS:
        return option.removesuffix("_file"), _secret(name, value) if option.endswith("_file") else value
    if option not in _OPTIONS:
        known = ", ".join(sorted(VARIABLE_PREFIX + known.upper() for known in _OPTIONS))
        raise StreamingError(f"{VARIABLE_PREFIX}{name} is no setting of the platform; there are {known}.")
    if option != "ssl_check_hostname":
        return option, value
    if value.lower() not in _TRUTH:
        raise StreamingError(f"{VARIABLE_PREFIX}{name} must be true or false.")
    return option, _TRUTH[value.lower()]


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise StreamingError(f"The file that {VARIABLE_PREFIX}{name} names cannot be read.") from None


def pin_loggers() -> None:
    """Keep kafka-python from logging what it does: at DEBUG it prints the keys and values of messages.

    Whatever level the root logger has, and whatever was set on one of the library's own loggers before.
    """
    kafka = logging.getLogger("kafka")
    kafka.setLevel(max(kafka.level, logging.WARNING))
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.startswith("kafka.") and isinstance(logger, logging.Logger) and logger.level < logging.WARNING:
            logger.setLevel(logging.NOTSET)
    # It warns of every connection by SASL PLAIN, also of those that stay on this machine.
    logging.getLogger("kafka.net.sasl.plain").setLevel(logging.ERROR)
