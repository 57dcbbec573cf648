"""The messages of Flight SQL that this server understands, as values.

Source: `format/FlightSql.proto` of Apache Arrow. Every command, ticket and action travels inside
a `google.protobuf.Any`, which is a type's name in field 1 and the message in field 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from k2i_core.errors import ConfigError
from k2i_core.flight.wire import Message, encoded_bytes

COMMAND_BYTES_MAX = 1 << 20
"""Larger lets a client make the server parse for longer; smaller refuses generated SQL."""

CREATE_PREPARED_STATEMENT = "CreatePreparedStatement"
CLOSE_PREPARED_STATEMENT = "ClosePreparedStatement"

_TYPE_PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."


@dataclass(frozen=True, slots=True)
class Query:
    """Run SQL: a statement, a prepared statement, or the ticket of either."""

    sql: str


@dataclass(frozen=True, slots=True)
class GetSqlInfo:
    """Tell facts about the server; all of them for no numbers."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GetCatalogs:
    """List catalogs."""


@dataclass(frozen=True, slots=True)
class GetDbSchemas:
    """List namespaces; None means that it does not matter."""

    catalog: str | None
    schema_pattern: str | None


@dataclass(frozen=True, slots=True)
class GetTables:
    """List tables; None means that it does not matter."""

    catalog: str | None
    schema_pattern: str | None
    table_pattern: str | None
    table_types: tuple[str, ...]
    include_schema: bool


@dataclass(frozen=True, slots=True)
class GetTableTypes:
    """List the kinds of tables."""


@dataclass(frozen=True, slots=True)
class GetKeys:
    """List keys, of which there are none.

    Attributes:
        is_primary: Primary keys; else those that refer from table to table.
    """

    is_primary: bool


@dataclass(frozen=True, slots=True)
class GetTypeInfo:
    """List the types of the SQL dialect, of which none are told."""


Command = (
    Query
    | GetSqlInfo
    | GetCatalogs
    | GetDbSchemas
    | GetTables
    | GetTableTypes
    | GetKeys
    | GetTypeInfo
)


_COMMANDS: Mapping[str, Callable[[Message], Command]] = MappingProxyType(
    {
        "CommandStatementQuery": lambda m: Query(m.text_of(1) or ""),
        "CommandPreparedStatementQuery": lambda m: Query(m.text_of(1) or ""),
        "TicketStatementQuery": lambda m: Query(m.text_of(1) or ""),
        "CommandGetSqlInfo": lambda m: GetSqlInfo(m.numbers_of(1)),
        "CommandGetCatalogs": lambda _: GetCatalogs(),
        "CommandGetDbSchemas": lambda m: GetDbSchemas(m.text_of(1), m.text_of(2)),
        "CommandGetTables": lambda m: GetTables(
            m.text_of(1), m.text_of(2), m.text_of(3), m.texts_of(4), bool(m.number_of(5))
        ),
        "CommandGetTableTypes": lambda _: GetTableTypes(),
        "CommandGetPrimaryKeys": lambda _: GetKeys(is_primary=True),
        "CommandGetExportedKeys": lambda _: GetKeys(is_primary=False),
        "CommandGetImportedKeys": lambda _: GetKeys(is_primary=False),
        "CommandGetCrossReference": lambda _: GetKeys(is_primary=False),
        "CommandGetXdbcTypeInfo": lambda _: GetTypeInfo(),
    }
)
"""Message → command. A handle is the SQL itself, so that the first three mean the same."""


def read_command(encoded: bytes | None) -> Command:
    """Read what a descriptor or a ticket holds.

    Raises:
        ConfigError: It is none of the commands above.

    """
    name, message = _unpacked(encoded)
    if name not in _COMMANDS:
        refusal = f"command {name} is not supported: this server runs SELECT and lists tables"
        raise ConfigError(refusal)
    return _COMMANDS[name](message)


def ticket_of(query: Query) -> bytes:
    """Return the ticket that runs a query."""
    return _packed("TicketStatementQuery", encoded_bytes(1, query.sql.encode()))


def read_action(kind: str, body: bytes) -> Query | None:
    """Read an action.

    Returns:
        The query to prepare; None for one to close, which needs nothing.

    Raises:
        ConfigError: It is neither.

    """
    if kind == CREATE_PREPARED_STATEMENT:
        name, message = _unpacked(body)
        if name == "ActionCreatePreparedStatementRequest":
            return Query(message.text_of(1) or "")
    elif kind == CLOSE_PREPARED_STATEMENT:
        return None
    message = (
        f"action {_shown(kind)} is not supported: this server is read only, without transactions"
    )
    raise ConfigError(message)


def prepared_statement(query: Query, dataset_schema: bytes) -> bytes:
    """Return the answer to a query that was prepared.

    Args:
        query: Becomes the handle.
        dataset_schema: Its columns as an IPC message.

    """
    fields = encoded_bytes(1, query.sql.encode()) + encoded_bytes(2, dataset_schema)
    return _packed("ActionCreatePreparedStatementResult", fields)


def _packed(name: str, message: bytes) -> bytes:
    return encoded_bytes(1, f"{_TYPE_PREFIX}{name}".encode()) + encoded_bytes(2, message)


def _unpacked(encoded: bytes | None) -> tuple[str, Message]:
    if not encoded:
        message = "no command; use a Flight SQL driver"
        raise ConfigError(message)
    if len(encoded) > COMMAND_BYTES_MAX:
        message = f"command has bytes={len(encoded)}, allowed are {COMMAND_BYTES_MAX}; shorten it"
        raise ConfigError(message)
    outer = Message(encoded)
    url = outer.text_of(1) or ""
    if not url.startswith(_TYPE_PREFIX):
        message = "command is none of Flight SQL; use a Flight SQL driver"
        raise ConfigError(message)
    return _shown(url.removeprefix(_TYPE_PREFIX)), Message(outer.bytes_of(2) or b"")


def _shown(name: str) -> str:
    """Return a name that a stranger chose as it may stand in a message."""
    return name if name.isidentifier() and name.isascii() and len(name) <= 64 else "?"  # noqa: PLR2004 - longer than any name of Flight SQL
