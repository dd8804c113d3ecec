"""The records of a range of offsets, read by librdkafka: a client in Python takes each record apart in Python.

Everything else that is done with Kafka needs no such speed and is done by kafka-python, whose names the settings have.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from operator import methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.streaming.client import CLIENT_ID, ClientSettings, unusable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

Headers = Sequence[tuple[str, bytes | None]] | None
UNREADABLE: Headers = (("", None),)
"""In the place of headers whose names are not UTF-8."""

BATCH_RECORDS, BATCH_BYTES = 50_000, 24 * 2**20
_POLL_RECORDS, _POLL_SECONDS = 10_000, 0.5
# A poll waits until it has so many records, whatever their size: as many as should have these bytes, and few at first.
_POLL_BYTES, _FIRST_POLL = 8 * 2**20, 500
_SILENCE_SECONDS = 30.0
# Ours (kafka-python's) → librdkafka's. Kerberos' domain is not among them: librdkafka takes each broker's own name.
_NAMES = {
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "sasl_kerberos_service_name": "sasl.kerberos.service.name",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
    "ssl_crlfile": "ssl.crl.location",
    "ssl_ciphers": "ssl.cipher.suites",
}
_OPTIONS = {
    "client.id": CLIENT_ID,
    # A consumer must have one. Nobody joins it and nothing is committed: our offsets are the warehouse's.
    "group.id": CLIENT_ID,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # As the ends of the ranges are found: a range of which some record is never shown would never end.
    "isolation.level": "read_uncommitted",
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "check.crcs": True,
    # What is fetched beyond the end of a range is thrown away, so little is fetched ahead, and waited for briefly.
    "fetch.message.max.bytes": 2**20,
    "queued.min.messages": 2 * _POLL_RECORDS,
    "queued.max.messages.kbytes": 16 * 2**10,
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 20,
    "enable.metrics.push": False,
    # It would write to stderr; what matters is raised.
    "log_level": 0,
}


_ASK_FOR_HEADERS = methodcaller("headers")


class TopicError(PrivacyPlatformError):
    """A topic cannot be read; the message names topic and partition."""


class Records(NamedTuple):
    """Some records of a partition in order, by column; a value is None where a record is a tombstone."""

    offsets: Sequence[int]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]


def reader_options(cluster: ClientSettings) -> Mapping[str, Any]:
    """Settings of librdkafka for reading from a cluster. They hold the password."""
    security = {_NAMES[name]: value for name, value in cluster.security.items() if name in _NAMES}
    certificate = cluster.security.get("ssl_certfile")
    checked = cluster.security.get("ssl_check_hostname", True)
    return {
        **_OPTIONS,
        **security,
        "bootstrap.servers": cluster.bootstrap_servers,
        # As kafka-python does: a certificate's file may hold its key, too.
        **({"ssl.key.location": certificate} if certificate and "ssl_keyfile" not in cluster.security else {}),
        "ssl.endpoint.identification.algorithm": "https" if checked else "none",
    }


def require_reader(cluster: ClientSettings) -> None:
    """See that records could be read with these settings, as far as can be told without asking the cluster.

    Raises:
        StreamingError: they do not fit librdkafka.
    """
    _reader(cluster, []).close()


def read(cluster: ClientSettings, topic: str, partition: int, start: int, end: int) -> Iterator[Records]:
    """The records [start, end) of a partition, some tens of thousands at a time.

    Raises:
        StreamingError: the settings do not fit librdkafka.
        TopicError: the range is not in the topic any more, or the broker does not answer, or refuses.
    """
    from confluent_kafka import TopicPartition

    name = f"{topic}[{partition}]"
    refusals: list[str] = []
    with closing(_reader(cluster, refusals)) as reader:
        reader.assign([TopicPartition(topic, partition, start)])
        parts: list[Records] = []
        size, reached, heard, most = 0, start, time.monotonic(), _FIRST_POLL
        while reached < end:
            messages = reader.consume(min(end - reached, most), _POLL_SECONDS)
            if messages:
                heard = time.monotonic()
                refusals.clear()  # by some broker, but not by all that are needed
            elif refusals or time.monotonic() - heard > _SILENCE_SECONDS:
                why = refusals[0] if refusals else "it is silent"
                raise TopicError(f"{name}: the broker gives no records ({why}); see that it runs, then try again.")
            records, reached = _taken(messages, name, reached, end)
            parts.append(records)
            fetched = sum(len(value) for value in records.values if value)
            most = min(_POLL_RECORDS, max(1, _POLL_BYTES * len(records.values) // max(1, fetched)))
            size += fetched
            if size >= BATCH_BYTES or sum(len(part.offsets) for part in parts) >= BATCH_RECORDS:
                yield _joined(parts)
                parts, size = [], 0
        if any(part.offsets for part in parts):
            yield _joined(parts)


def _joined(parts: Sequence[Records]) -> Records:
    return Records(*(list(chain.from_iterable(column)) for column in zip(*parts, strict=True)))


def _reader(cluster: ClientSettings, refusals: list[str]) -> "Consumer":
    """A consumer; what the cluster refuses, by name, is added to `refusals` while it is asked for records."""
    from confluent_kafka import Consumer, KafkaError, KafkaException

    refused = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED)

    def heard(error: "KafkaError") -> None:
        if error.code() in refused:
            refusals.append(error.name())

    try:
        return Consumer({**reader_options(cluster), "error_cb": heard})
    except (KafkaException, ValueError, TypeError) as error:
        raise unusable(cluster, error) from None


def _taken(messages: "Sequence[Message]", name: str, reached: int, end: int) -> tuple[Records, int]:
    """The records before `end` among what was given, and the offset that is reached with them."""
    given = [message for message in messages if message.error() is None]
    if len(given) < len(messages):
        for error, offset in ((message.error(), message.offset()) for message in messages):
            if error is not None and _is_end(error, name, offset or reached):
                reached = max(reached, offset or 0)  # after the last record there may be offsets without one
    offsets = cast("list[int]", [message.offset() for message in given])
    if offsets:
        reached = max(reached, offsets[-1] + 1)
    kept = bisect_left(offsets, end)
    values = [message.value() for message in given[:kept]]
    return Records(offsets[:kept], values, [_headers(message) for message in given[:kept]]), reached


def _headers(message: "Message") -> Headers:
    """The headers of a message, which must be asked for once and in no other way.

    Of a name that is not UTF-8 the library makes a tuple that lacks a member, and leaves an exception pending. A call
    from C finds that; the interpreter's own quick way to call a method does not look, and what it would be given, as
    well as what the library gives when it is asked again, crashes whoever touches it.
    """
    try:
        return cast("Headers", _ASK_FOR_HEADERS(message))
    except (SystemError, UnicodeError):
        return UNREADABLE


def _is_end(error: "KafkaError", name: str, offset: int) -> bool:
    """Whether that is only the end of the partition.

    Raises:
        TopicError: it keeps us from reading on.
    """
    from confluent_kafka import KafkaError

    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise TopicError(
            f"{name}: offset {offset} is gone: deleted by the topic's retention before it was read, or the topic was "
            "made anew. See docs/streaming.md, Lost records."
        )
    # Who may not join a group can read all the same: none is used.
    if error.code() not in (KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise TopicError(f"{name}: cannot be read ({error.name()}); see that the broker runs.")
    return error.code() == KafkaError._PARTITION_EOF
