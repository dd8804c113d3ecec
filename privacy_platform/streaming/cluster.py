"""Which Kafka the platform works with: the one the environment names, or the embedded one of this home."""

from pathlib import Path

from privacy_platform import settings
from privacy_platform.streaming import broker
from privacy_platform.streaming.client import BOOTSTRAP_VARIABLE, ClientSettings, StreamingError, from_environment


def client_settings(home: Path | None = None) -> ClientSettings:
    """How to reach Kafka: by `PRIVACY_PLATFORM_KAFKA_*`, else the embedded broker of `home` (by default the set one).

    Raises:
        StreamingError: the embedded broker is not running, or a variable is wrong.
    """
    named = from_environment()
    if named is not None:
        return named
    running = broker.status(home or settings.home())
    if running is None:
        raise StreamingError(
            f"No Kafka: start the embedded broker with `privacy-platform kafka up`, or set {BOOTSTRAP_VARIABLE}."
        )
    return running.client
