"""The table of librdkafka errors.

Goal: no error of the library goes by unjudged, and each is what its handler expects.
Method: compare the table with every code that `KafkaError` names; then one example a reaction.
"""

import pytest
from confluent_kafka import KafkaError

from k2i_core.errors import ConfigError, DataLossError, ErrorKind, UnavailableError
from k2i_core.kafka.failures import (
    _CODE_NAMES,
    REACTIONS,
    Reaction,
    reaction_to,
    translated,
)
from k2i_core.kafka.settings import Secrets

NO_SECRETS = Secrets({})
LIBRARY_CODES = {
    name: code
    for name in dir(KafkaError)
    if not name.startswith("__") and isinstance(code := getattr(KafkaError, name), int)
}


def test_every_code_of_the_library_has_a_reaction() -> None:
    unjudged = [name for name, code in LIBRARY_CODES.items() if code not in REACTIONS]

    assert len(LIBRARY_CODES) > 150
    assert unjudged == []


def test_no_code_has_two_reactions() -> None:
    names = [name for names in _CODE_NAMES.values() for name in names.split()]

    assert sorted(names) == sorted(set(names))
    assert set(names) == set(LIBRARY_CODES)


def test_an_unknown_code_asks_for_a_new_client() -> None:
    assert reaction_to(KafkaError(987_654)) is Reaction.REBUILD


def test_fatal_outweighs_a_harmless_code() -> None:
    harmless = KafkaError(KafkaError._TRANSPORT)
    fatal = KafkaError(KafkaError._TRANSPORT, fatal=True)

    assert reaction_to(harmless) is Reaction.WAIT
    assert reaction_to(fatal) is Reaction.REBUILD


@pytest.mark.parametrize(
    ("code", "error_class", "kind"),
    [
        (KafkaError._AUTHENTICATION, ConfigError, ErrorKind.CONFIG_INVALID),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigError, ErrorKind.CONFIG_INVALID),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ConfigError, ErrorKind.TOPIC_MISSING),
        (KafkaError._INVALID_ARG, ConfigError, ErrorKind.CONFIG_INVALID),
        (KafkaError.OFFSET_OUT_OF_RANGE, DataLossError, ErrorKind.OFFSETS_LOST),
        (KafkaError._TRANSPORT, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
        (KafkaError._BAD_MSG, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
        (KafkaError._FATAL, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    ],
)
def test_each_error_becomes_what_its_handler_expects(
    code: int, error_class: type[Exception], kind: ErrorKind
) -> None:
    error = translated(KafkaError(code, "why"), "reading", NO_SECRETS)

    assert type(error) is error_class
    assert error.kind is kind
    assert KafkaError(code).name() in str(error)


def test_a_secret_in_a_reason_is_not_repeated() -> None:
    secrets = Secrets({"sasl.password": "hunter2"})

    error = translated(
        KafkaError(KafkaError._AUTHENTICATION, "no user with hunter2"), "reading", secrets
    )

    assert "hunter2" not in str(error)
    assert "***" in str(error)
