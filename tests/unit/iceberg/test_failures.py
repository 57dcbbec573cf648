"""Foreign exceptions become k2i errors, every one of them, and carry no secrets.

Goal: no exception of PyIceberg or below it reaches the protocol, whose loop reacts by class.
Method: list the library's exceptions and translate each; a new one in a new release fails here.
"""

import inspect

import pyarrow as pa
import pytest
import requests
from pyiceberg import exceptions as iceberg
from sqlalchemy import exc as sql

from k2i_core.errors import (
    CommitStateUnknownError,
    ConfigError,
    ConflictError,
    CorruptionError,
    ErrorKind,
    K2iError,
    UnavailableError,
)
from k2i_core.iceberg.failures import _RULES, foreign_exceptions, reason, translate, translated

PYICEBERG = [
    member
    for _, member in inspect.getmembers(iceberg, inspect.isclass)
    if issubclass(member, Exception)
]

OTHERS: list[tuple[Exception, type[K2iError]]] = [
    (requests.ConnectionError("refused"), UnavailableError),
    (requests.Timeout("slow"), UnavailableError),
    (requests.exceptions.InvalidURL("no host"), ConfigError),
    (sql.OperationalError("SELECT 1", None, Exception("database is locked")), UnavailableError),
    (sql.IntegrityError("INSERT", None, Exception("UNIQUE constraint")), ConflictError),
    (sql.NoSuchModuleError("no dialect"), ConfigError),
    (sql.TimeoutError("pool"), UnavailableError),
    (OSError(28, "No space left on device"), UnavailableError),
    (FileNotFoundError(2, "gone"), UnavailableError),
    (PermissionError(13, "denied"), ConfigError),
    (ConnectionResetError(104, "reset"), UnavailableError),
    (pa.ArrowInvalid("not a Parquet file"), CorruptionError),
    (NotImplementedError("no endpoint"), ConfigError),
    (ModuleNotFoundError("no module named boto3"), ConfigError),
]


def test_pyiceberg_still_has_the_exceptions_that_this_test_thinks_it_has() -> None:
    assert len(PYICEBERG) > 30


@pytest.mark.parametrize("foreign", PYICEBERG, ids=lambda c: c.__name__)
def test_every_exception_of_pyiceberg_has_a_rule_of_its_own_library(
    foreign: type[Exception],
) -> None:
    rule = next((rule for rule in _RULES if issubclass(foreign, rule[0])), None)

    assert rule is not None
    assert rule[0].__module__ == iceberg.__name__
    assert isinstance(translate(foreign("broken"), "try"), rule[1])
    assert issubclass(foreign, foreign_exceptions())


@pytest.mark.parametrize(("foreign", "ours"), OTHERS, ids=lambda v: type(v).__name__)
def test_exceptions_of_the_libraries_below_are_mapped(
    foreign: Exception, ours: type[K2iError]
) -> None:
    with pytest.raises(ours) as caught, translated("try"):
        raise foreign

    assert type(caught.value) is ours
    assert caught.value.__cause__ is foreign


@pytest.mark.parametrize("position", range(len(_RULES)))
def test_no_rule_is_hidden_by_an_earlier_one(position: int) -> None:
    foreign = _RULES[position][0]

    assert not any(issubclass(foreign, rule[0]) for rule in _RULES[:position])


@pytest.mark.parametrize(
    ("foreign", "ours", "kind"),
    [
        (iceberg.CommitFailedException("x"), ConflictError, ErrorKind.TABLE_CHANGED),
        (
            iceberg.CommitStateUnknownException("x"),
            CommitStateUnknownError,
            ErrorKind.COMMIT_UNKNOWN,
        ),
        (iceberg.NoSuchTableError("x"), ConfigError, ErrorKind.TABLE_MISSING),
        (iceberg.ServiceUnavailableError("x"), UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
        (iceberg.ForbiddenError("x"), ConfigError, ErrorKind.CONFIG_INVALID),
    ],
)
def test_the_reaction_fits_the_cause(
    foreign: Exception, ours: type[K2iError], kind: ErrorKind
) -> None:
    error = translate(foreign, "load table a.b")

    assert type(error) is ours
    assert error.kind is kind
    assert str(error).startswith("could not load table a.b: ")


def test_our_own_errors_pass_unchanged() -> None:
    error = UnavailableError("down")

    assert translate(error, "try") is error
    with pytest.raises(UnavailableError) as caught, translated("try"):
        raise error
    assert caught.value is error


def test_a_bug_is_not_dressed_up_as_a_failure() -> None:
    bug = KeyError("bug")

    with pytest.raises(KeyError), translated("try"):
        raise bug


def test_exceptions_of_libraries_that_are_not_installed_are_known_once_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class ClientError(Exception):
        __module__ = "botocore.exceptions"

    class Loaded:
        BotoCoreError = ClientError

    Loaded.ClientError = ClientError
    monkeypatch.setitem(__import__("sys").modules, "botocore.exceptions", Loaded)

    for foreign, ours in (
        (ClientError("SlowDown"), UnavailableError),
        (ClientError("AccessDenied: no"), ConfigError),
    ):
        with pytest.raises(ours), translated("try"):
            raise foreign


@pytest.mark.parametrize(
    "text",
    [
        "no route to http://user:hunter2@catalog:8181/v1",
        'bad request: {"client_secret": "hunter2"}',
        "s3.secret-access-key=hunter2 is malformed",
        "password=hunter2 rejected",
        "Authorization: Bearer hunter2",
        "GET /t?token=hunter2&x=1",
        "credential: hunter2",
    ],
)
def test_secrets_do_not_reach_the_message(text: str) -> None:
    message = str(translate(iceberg.RESTError(text), "open catalog 'k2i'"))

    assert "hunter2" not in message
    assert "***" in message


def test_the_reason_is_one_short_line() -> None:
    assert reason(OSError("first\nsecond")) == "OSError: first"
    assert reason(iceberg.RESTError("")) == "RESTError"
    assert len(reason(OSError("x" * 10_000))) < 400


def test_a_database_error_is_told_in_the_drivers_words() -> None:
    error = sql.OperationalError("UPDATE t SET a=?", ("row",), Exception("database is locked"))

    assert reason(error) == "OperationalError: database is locked"
