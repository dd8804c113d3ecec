"""Settings of Kafka clients from the environment, and loggers that tell no message."""

import logging
from pathlib import Path

import pytest

from privacy_platform.streaming.client import (
    _OPTIONS,
    ClientSettings,
    StreamingError,
    from_environment,
    pin_loggers,
)
from privacy_platform.streaming.records import reader_options

SERVERS = {"PRIVACY_PLATFORM_KAFKA_BOOTSTRAP_SERVERS": "a:9092,b:9092"}


def test_no_cluster_is_named() -> None:
    assert from_environment({"PRIVACY_PLATFORM_KAFKA_PORT": "9092", "PRIVACY_PLATFORM_KAFKA_JARS": "/x"}) is None


def test_security_settings_pass_through_under_the_library_s_names(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hush\n", encoding="utf-8")
    found = from_environment({
        **SERVERS,
        "PRIVACY_PLATFORM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "PRIVACY_PLATFORM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "PRIVACY_PLATFORM_KAFKA_SASL_PLAIN_USERNAME": "reader",
        "PRIVACY_PLATFORM_KAFKA_SASL_PLAIN_PASSWORD_FILE": str(secret),
        "PRIVACY_PLATFORM_KAFKA_SSL_CAFILE": "/etc/ca.pem",
        "PRIVACY_PLATFORM_KAFKA_SSL_CHECK_HOSTNAME": "False",
    })  # fmt: skip
    assert found == ClientSettings(
        "a:9092,b:9092",
        {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "reader",
            "sasl_plain_password": "hush",
            "ssl_cafile": "/etc/ca.pem",
            "ssl_check_hostname": False,
        },
    )
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({**SERVERS, "PRIVACY_PLATFORM_KAFKA_SASL_PASSWORD": "hush"}, "SASL_PASSWORD is no setting"),
        ({**SERVERS, "PRIVACY_PLATFORM_KAFKA_SSL_CHECK_HOSTNAME": "perhaps"}, "true or false"),
        ({**SERVERS, "PRIVACY_PLATFORM_KAFKA_SSL_PASSWORD_FILE": "/nowhere/at/all"}, "cannot be read"),
        ({"PRIVACY_PLATFORM_KAFKA_SASL_PLAIN_PASSWORD": "hush"}, "without a cluster"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(StreamingError, match=words) as caught:
        from_environment(variables)
    assert "hush" not in str(caught.value)


def test_the_library_stays_silent_when_everything_else_is_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    child = logging.getLogger("kafka.producer.kafka")
    child.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        pin_loggers()
        child.debug("Sending (key=%r value=%r)", b"user-1", b"secret")
        child.warning("something is wrong")
    assert [record.message for record in caplog.records] == ["something is wrong"]


def test_a_stricter_level_is_kept() -> None:
    kafka = logging.getLogger("kafka")
    before = kafka.level
    try:
        kafka.setLevel(logging.CRITICAL)
        pin_loggers()
        assert kafka.level == logging.CRITICAL
    finally:
        kafka.setLevel(before)


def test_every_security_setting_reaches_the_reader_too() -> None:
    names = {name: f"a {name}" for name in _OPTIONS} | {"ssl_check_hostname": False}
    options = reader_options(ClientSettings("a:9092", names))
    assert {name: value for name, value in options.items() if name.startswith(("sasl.", "ssl.", "security."))} == {
        "security.protocol": "a security_protocol",
        "sasl.mechanism": "a sasl_mechanism",
        "sasl.username": "a sasl_plain_username",
        "sasl.password": "a sasl_plain_password",
        "sasl.kerberos.service.name": "a sasl_kerberos_service_name",
        "ssl.ca.location": "a ssl_cafile",
        "ssl.certificate.location": "a ssl_certfile",
        "ssl.key.location": "a ssl_keyfile",
        "ssl.key.password": "a ssl_password",
        "ssl.crl.location": "a ssl_crlfile",
        "ssl.cipher.suites": "a ssl_ciphers",
        "ssl.endpoint.identification.algorithm": "none",
    }
    plain = reader_options(ClientSettings("a:9092", {"ssl_certfile": "both.pem"}))
    assert plain["ssl.endpoint.identification.algorithm"] == "https"
    assert plain["ssl.certificate.location"] == plain["ssl.key.location"] == "both.pem"
