"""Goal: whatever bytes come in, a message of Flight SQL is read as it was meant or refused by name.

Method: arbitrary bytes, messages that protobuf's own library encoded, and those cut or changed.
"""

from contextlib import suppress

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.errors import ConfigError
from k2i_core.flight.commands import (
    GetSqlInfo,
    GetTables,
    Query,
    prepared_statement,
    read_action,
    read_command,
    ticket_of,
)
from k2i_core.flight.wire import Message

PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."
Field = descriptor_pb2.FieldDescriptorProto


def _messages():
    """Two messages as `FlightSql.proto` declares them."""
    file = descriptor_pb2.FileDescriptorProto(name="tried.proto", package="tried", syntax="proto3")
    tables = file.message_type.add(name="CommandGetTables")
    names = ("catalog", "db_schema_filter_pattern", "table_name_filter_pattern")
    for number, name in enumerate(names, start=1):
        tables.field.add(
            name=name,
            number=number,
            type=Field.TYPE_STRING,
            label=Field.LABEL_OPTIONAL,
            proto3_optional=True,
            oneof_index=number - 1,
        )
        tables.oneof_decl.add(name=f"_{name}")
    tables.field.add(
        name="table_types", number=4, type=Field.TYPE_STRING, label=Field.LABEL_REPEATED
    )
    tables.field.add(
        name="include_schema", number=5, type=Field.TYPE_BOOL, label=Field.LABEL_OPTIONAL
    )
    info = file.message_type.add(name="CommandGetSqlInfo")
    info.field.add(name="info", number=1, type=Field.TYPE_UINT32, label=Field.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tried.{name}"))
        for name in ("CommandGetTables", "CommandGetSqlInfo")
    ]


TABLES, SQL_INFO = _messages()
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


def packed(name: str, message) -> bytes:
    return any_pb2.Any(
        type_url=PREFIX + name, value=message.SerializeToString()
    ).SerializeToString()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_refused(encoded: bytes) -> None:
    with suppress(ConfigError):
        read_command(encoded)


@given(
    st.none() | TEXTS,
    st.none() | TEXTS,
    st.none() | TEXTS,
    st.lists(TEXTS, max_size=4),
    st.booleans(),
)
def test_a_message_means_what_protobuf_s_own_library_wrote(
    catalog, schema, table, types, include
) -> None:
    message = TABLES(
        catalog=catalog,
        db_schema_filter_pattern=schema,
        table_name_filter_pattern=table,
        table_types=types,
        include_schema=include,
    )

    read = read_command(packed("CommandGetTables", message))

    assert read == GetTables(catalog, schema, table, tuple(types), include)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_packed_numbers_are_read(numbers: list[int]) -> None:
    read = read_command(packed("CommandGetSqlInfo", SQL_INFO(info=numbers)))

    assert read == GetSqlInfo(tuple(numbers))


@given(TEXTS, st.data())
def test_what_this_server_writes_it_reads(sql: str, data) -> None:
    ticket = ticket_of(Query(sql))
    assert read_command(ticket) == Query(sql)
    cut = data.draw(st.integers(0, len(ticket) - 1))
    with suppress(ConfigError):
        assert isinstance(read_command(ticket[:cut]), Query)
    wrapped = any_pb2.Any.FromString(prepared_statement(Query(sql), b"columns"))
    answer = Message(wrapped.value)
    assert (answer.text_of(1), answer.bytes_of(2)) == (sql, b"columns")


@pytest.mark.parametrize("kind", ["", "BeginTransaction", "CreatePreparedStatement", "../x"])
def test_an_action_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError):
        read_action(kind, b"")
    assert read_action("ClosePreparedStatement", b"\xff") is None
