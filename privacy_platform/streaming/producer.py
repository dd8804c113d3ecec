"""Sends messages and accounts for every one: acknowledged by all replicas, refused for what it is, or not delivered.

Promise: `accepted == acknowledged + refused + undelivered` when `Delivery.finish` has returned, and a message counts as
acknowledged only when the broker said so. The idempotent protocol keeps a partition's order and doubles nothing, also
over a restart of the broker. Where a delivery fails all the same (the broker is away for longer than
`delivery_timeout_ms`, or has forgotten the producer), everything in flight is settled, a new producer takes over, and
what failed is sent again as it was, in its order, before anything new: the topic may then hold a message twice, under
one `event_id`. Memory is bounded by the number of messages in flight.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from privacy_platform.streaming.client import ClientSettings, StreamingError
from privacy_platform.streaming.messages import SCHEMA_HEADER, SCHEMA_VERSION, Message

if TYPE_CHECKING:
    from kafka import KafkaProducer

IN_FLIGHT = 20_000
ATTEMPTS = 5
GIVE_UP_SECONDS = 300.0
_HEADERS = [(SCHEMA_HEADER, SCHEMA_VERSION)]
_OPTIONS: dict[str, Any] = {
    "enable_idempotence": True,
    "acks": "all",
    "compression_type": "lz4",
    "linger_ms": 20,
    "batch_size": 256 * 1024,
    "delivery_timeout_ms": 120_000,
    "reconnect_backoff_max_ms": 1_000,
}
_POLL_SECONDS = 0.2
_RECONNECT_MS = 2_000
_GRACE_SECONDS = 5.0


@dataclass
class Account:
    """What became of the messages so far; `resent` counts deliveries, the others messages."""

    accepted: int = 0
    acknowledged: int = 0
    resent: int = 0
    refused: int = 0
    undelivered: int = 0

    @property
    def in_flight(self) -> int:
        """Sent, and not settled yet."""
        return self.accepted - self.acknowledged - self.refused - self.undelivered


@dataclass(slots=True)
class _Sent:
    future: Any
    message: Message
    attempt: int
    accepted: float
    handed_over: float


class Delivery:
    """A producer on one topic that knows what became of each message. Not for several threads.

    Args:
        cluster: Where the topic is.
        topic: Its name.
        in_flight: The most messages that are neither acknowledged nor given up.
        options: Settings of kafka-python's producer that differ from this module's.

    Raises:
        StreamingError: the cluster cannot be reached, or refuses us.
    """

    def __init__(self, cluster: ClientSettings, topic: str, *, in_flight: int = IN_FLIGHT, **options: Any) -> None:
        self.account = Account()
        self._cluster = cluster
        self._topic = topic
        self._limit = in_flight
        self._options = {**_OPTIONS, **options}
        # kafka-python does not enforce its own time-out while it has no producer id, which it asks the broker for.
        self._patience = self._options["delivery_timeout_ms"] / 1000 + _GRACE_SECONDS
        self._pending: deque[_Sent] = deque()
        self._again: deque[_Sent] = deque()
        self._broken: StreamingError | None = None
        self._producer: KafkaProducer | None = cluster.producer(**self._options)

    def send(self, messages: Sequence[Message], stopped: Callable[[], bool] = lambda: False) -> None:
        """Accept messages, waiting while too many are in flight or the broker is away.

        Those that were not yet accepted when `stopped` says so are left out.

        Raises:
            StreamingError: the topic does not exist, Kafka does not let us write to it, or has acknowledged nothing for
                five minutes.
        """
        for message in messages:
            while (self._again or len(self._pending) >= self._limit) and self._broken is None and not stopped():
                self._settle(_POLL_SECONDS)
            if stopped():
                return
            if self._broken is None:
                self.account.accepted += 1
                self._hand_over(message, 1, time.monotonic())
            if self._broken is not None:
                raise self._broken
        self._settle(0.0)

    def oldest_seconds(self) -> float:
        """How long the message that has waited longest for its acknowledgement has waited."""
        oldest = self._again or self._pending
        return time.monotonic() - oldest[0].accepted if oldest else 0.0

    def finish(self, seconds: float = 150.0) -> Account:
        """Wait for what is in flight, at most `seconds`, close, and give the final account."""
        deadline = time.monotonic() + seconds
        while self.account.in_flight and self._broken is None and (left := deadline - time.monotonic()) > 0:
            self._settle(min(left, _POLL_SECONDS))
        self._retire()
        self.account.undelivered += len(self._again)
        self._again.clear()
        return self.account

    def _hand_over(self, message: Message, attempt: int, accepted: float) -> None:
        from kafka.errors import KafkaError, MessageSizeTooLargeError

        if self._producer is None or self._broken is not None:
            self._again.append(_Sent(None, message, attempt, accepted, 0.0))
            return
        try:
            future = self._producer.send(self._topic, message.value, message.key, _HEADERS)
        except MessageSizeTooLargeError:
            self.account.refused += 1
        except KafkaError as error:
            self._broken = StreamingError(f"Kafka takes nothing for the topic {self._topic} ({type(error).__name__}).")
            self._again.append(_Sent(None, message, attempt, accepted, 0.0))
        else:
            self._pending.append(_Sent(future, message, attempt, accepted, time.monotonic()))

    def _settle(self, seconds: float) -> None:
        """Account for what is settled at the head of the queue, waiting at most `seconds` for the first of it."""
        if self._producer is None:
            self._resume()
            return
        pending = self._pending
        if pending and seconds and not pending[0].future.is_done:
            _wait(pending[0].future, seconds)
        while pending and pending[0].future.is_done and pending[0].future.exception is None:
            pending.popleft()
            self.account.acknowledged += 1
        if pending and (pending[0].future.is_done or time.monotonic() - pending[0].handed_over > self._patience):
            self._retire()

    def _retire(self) -> None:
        """Close the producer, which settles everything in flight, and note what has to be sent again."""
        if self._producer is not None:
            # `close` alone would wait for what the broker may never take, then leave its thread running.
            self._producer._sender.force_close()
            self._producer.close(timeout=_GRACE_SECONDS)
            self._producer = None
        for sent in self._pending:
            _wait(sent.future, _GRACE_SECONDS)
            if sent.future.succeeded():
                self.account.acknowledged += 1
            elif _is_hopeless(sent.future.exception):
                self.account.refused += 1
            elif sent.attempt >= ATTEMPTS:
                self.account.undelivered += 1
            else:
                self._again.append(sent)
        self._pending.clear()

    def _resume(self) -> None:
        """Send again with a new producer, when the cluster is back."""
        if self.oldest_seconds() > GIVE_UP_SECONDS:
            self._broken = StreamingError(f"Kafka has acknowledged nothing for {GIVE_UP_SECONDS:.0f} s.")
            return
        try:
            self._producer = self._cluster.producer(**{**self._options, "bootstrap_timeout_ms": _RECONNECT_MS})
        except StreamingError:
            return
        again, self._again = self._again, deque()
        for sent in again:
            self.account.resent += 1
            self._hand_over(sent.message, sent.attempt + 1, sent.accepted)


def produce(
    delivery: Delivery,
    chunks: Iterable[Sequence[Message]],
    *,
    rate: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[Account, float], None] | None = None,
) -> Account:
    """Send all chunks, at most `rate` messages a second, until `stopped` says so; then wait for the last of them.

    Args:
        delivery: Where they go.
        chunks: What is sent; drawn when their time has come.
        rate: Messages a second; None for as many as are acknowledged.
        stopped: Asked often.
        progress: Told after each chunk: the account, and the seconds that the oldest message in flight has waited.

    Raises:
        StreamingError: Kafka takes nothing, or the chunks cannot be read. What was in flight is settled before.
    """
    began = time.monotonic()
    source = iter(chunks)
    try:
        while not stopped():
            if rate is not None:
                _sleep_until(began + delivery.account.accepted / rate, stopped)
            if stopped() or (chunk := next(source, None)) is None:
                break
            delivery.send(chunk, stopped)
            if progress is not None:
                progress(delivery.account, delivery.oldest_seconds())
    finally:
        delivery.finish()
    return delivery.account


def _sleep_until(moment: float, stopped: Callable[[], bool]) -> None:
    while (left := moment - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, _POLL_SECONDS))


def _wait(future: Any, seconds: float) -> None:
    from kafka.errors import KafkaError

    try:
        future.get(timeout=seconds)
    except KafkaError:
        return  # Not settled yet, or failed: the future itself says which.


def _is_hopeless(error: BaseException | None) -> bool:
    """Whether the message itself, or our rights, are what Kafka objects to: the same would happen again."""
    from kafka import errors

    return isinstance(
        error,
        errors.MessageSizeTooLargeError
        | errors.RecordListTooLargeError
        | errors.InvalidRecordError
        | errors.InvalidTimestampError
        | errors.AuthorizationError,
    )
