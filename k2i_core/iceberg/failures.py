"""Exceptions of everything an Iceberg table is made of, mapped to the k2i tree in one place.

PyIceberg reaches a catalog (HTTP, SQL, Thrift, AWS) and a store (Arrow's file systems), and lets
the exceptions of all of them through. Around every call stands

    with translated("load table sales.orders"):
        table = catalog.load_table(identifier)

so that nothing above sees one of them. What a message may carry of the foreign text is decided
here too: its first line, without anything that looks like a secret.
"""

import re
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pyarrow as pa
import requests
from pydantic import ValidationError as PydanticValidationError
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

REASON_CHARACTERS_MAX = 300
"""How much of a foreign message is kept. Larger repeats whole SQL statements and HTML pages;
smaller cuts off the part that says why."""

_SECRET = re.compile(
    r"(?i)\b([\w.-]*(?:secret|password|passwd|token|credential|access-key|signature)[\w.-]*)"
    r"""["']?\s*[=:]\s*["']?[^\s"',;&]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
_USER_INFORMATION = re.compile(r"://[^/@\s]+@")

# Libraries that are not installed with k2i: looked up only after something of theirs was raised.
_OPTIONAL_ROOTS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("thrift.Thrift", "TException"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("azure.core.exceptions", "AzureError"),
)
_OPTIONAL_PACKAGES = ("botocore", "thrift", "hive_metastore", "google", "azure")

_ICEBERG_EXCEPTIONS = tuple(
    value
    for value in vars(iceberg).values()
    if isinstance(value, type) and issubclass(value, Exception)
)

_FOREIGN = (
    *_ICEBERG_EXCEPTIONS,
    requests.RequestException,
    sql.SQLAlchemyError,
    pa.ArrowException,
    OSError,
    ValueError,  # pydantic's, Arrow's ArrowInvalid, and PyIceberg's own refusals
    NotImplementedError,
    ImportError,  # an optional library of PyIceberg is asked for by a property
)

# First match wins, so a subclass stands before its base.
_RULES: tuple[tuple[type[BaseException], type[K2iError], ErrorKind], ...] = (
    # Commits.
    (iceberg.CommitStateUnknownException, CommitStateUnknownError, ErrorKind.COMMIT_UNKNOWN),
    (iceberg.CommitFailedException, ConflictError, ErrorKind.TABLE_CHANGED),
    (iceberg.ValidationException, ConflictError, ErrorKind.TABLE_CHANGED),
    (iceberg.WaitingForLockException, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    (iceberg.ConditionalCheckFailedException, ConflictError, ErrorKind.TABLE_CHANGED),
    (iceberg.DynamoDbError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    # Someone else was first.
    (iceberg.TableAlreadyExistsError, ConflictError, ErrorKind.TABLE_CHANGED),
    (iceberg.ViewAlreadyExistsError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.NamespaceAlreadyExistsError, ConflictError, ErrorKind.TABLE_CHANGED),
    # Not there.
    (iceberg.NoSuchTableError, ConfigError, ErrorKind.TABLE_MISSING),
    (iceberg.NoSuchNamespaceError, ConfigError, ErrorKind.TABLE_MISSING),
    (iceberg.NoSuchIdentifierError, ConfigError, ErrorKind.TABLE_MISSING),
    (iceberg.NoSuchViewError, ConfigError, ErrorKind.TABLE_MISSING),
    # The settings.
    (iceberg.NamespaceNotEmptyError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.NoSuchPropertyException, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.NotInstalledError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.UnauthorizedError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.ForbiddenError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.OAuthError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.BadRequestError, ConfigError, ErrorKind.CONFIG_INVALID),
    (iceberg.SignError, ConfigError, ErrorKind.CONFIG_INVALID),
    # The service.
    (iceberg.NoSuchPlanTaskError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    (iceberg.AuthorizationExpiredError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    (iceberg.TooManyRequestsError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    (iceberg.ServiceUnavailableError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    (iceberg.ServerError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    (iceberg.RESTError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    # What is stored.
    (iceberg.ResolveError, CorruptionError, ErrorKind.METADATA_UNREADABLE),
    (iceberg.ValidationError, CorruptionError, ErrorKind.METADATA_UNREADABLE),
    (PydanticValidationError, CorruptionError, ErrorKind.METADATA_UNREADABLE),
    # HTTP. A malformed URL is a ValueError too and must not be retried.
    (requests.exceptions.InvalidURL, ConfigError, ErrorKind.CONFIG_INVALID),
    (requests.exceptions.MissingSchema, ConfigError, ErrorKind.CONFIG_INVALID),
    (requests.exceptions.InvalidSchema, ConfigError, ErrorKind.CONFIG_INVALID),
    (requests.RequestException, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    # SQL.
    (sql.IntegrityError, ConflictError, ErrorKind.TABLE_CHANGED),
    (sql.ArgumentError, ConfigError, ErrorKind.CONFIG_INVALID),
    (sql.ProgrammingError, ConfigError, ErrorKind.CONFIG_INVALID),
    (sql.SQLAlchemyError, UnavailableError, ErrorKind.SERVICE_UNAVAILABLE),
    # The store.
    (PermissionError, ConfigError, ErrorKind.CONFIG_INVALID),
    (NotADirectoryError, ConfigError, ErrorKind.CONFIG_INVALID),
    (FileExistsError, ConfigError, ErrorKind.CONFIG_INVALID),  # a file where a folder must be
    (OSError, UnavailableError, ErrorKind.STORAGE_UNAVAILABLE),
    (pa.ArrowNotImplementedError, ConfigError, ErrorKind.CONFIG_INVALID),
    (pa.ArrowException, CorruptionError, ErrorKind.METADATA_UNREADABLE),
    (NotImplementedError, ConfigError, ErrorKind.CONFIG_INVALID),
    (ImportError, ConfigError, ErrorKind.CONFIG_INVALID),
    (ValueError, ConfigError, ErrorKind.CONFIG_INVALID),
)


def foreign_exceptions() -> tuple[type[Exception], ...]:
    """Return what the libraries below may raise, for an `except` clause.

    Python asks for it only when something was raised: by then the module of a library that is not
    installed with k2i is loaded, if it was the one.
    """
    optional = (
        getattr(sys.modules[module], name)
        for module, name in _OPTIONAL_ROOTS
        if module in sys.modules
    )
    return (*_FOREIGN, *optional)


def translate(error: Exception, doing: str) -> K2iError:
    """Return the k2i error for a foreign one; a k2i error is returned as it is.

    Args:
        error: What a library raised.
        doing: What was attempted, as the beginning of a sentence: `load table sales.orders`.

    """
    if isinstance(error, K2iError):
        return error
    message = f"could not {doing}: {reason(error)}"
    for foreign, ours, kind in _RULES:
        if isinstance(error, foreign):
            return ours(message, kind=kind)
    assert type(error).__module__.split(".")[0] in _OPTIONAL_PACKAGES, type(error)
    if any(word in str(error) for word in ("AccessDenied", "ExpiredToken", "InvalidAccessKeyId")):
        return ConfigError(message)
    return UnavailableError(message)


@contextmanager
def translated(doing: str) -> Generator[None]:
    """Turn what the libraries raise inside into k2i errors.

    Args:
        doing: See `translate`.

    Raises:
        K2iError: Whatever the mapping says.

    """
    try:
        yield
    except foreign_exceptions() as error:
        raise translate(error, doing) from error


def reason(error: Exception) -> str:
    """Return class and first line of a foreign message, without what looks like a secret."""
    # A database driver's own words, without SQLAlchemy's statement and parameters around them.
    source = getattr(error, "orig", None) or error
    text = next((line.strip() for line in str(source).splitlines() if line.strip()), "")
    text = _USER_INFORMATION.sub("://***@", text)
    text = _BEARER.sub(r"\1 ***", text)
    text = _SECRET.sub(r"\1=***", text)
    if len(text) > REASON_CHARACTERS_MAX:
        text = f"{text[:REASON_CHARACTERS_MAX]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
