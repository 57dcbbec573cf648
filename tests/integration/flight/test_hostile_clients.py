"""Goal: a client reads the table and nothing else, and cannot harm the server, whatever it sends.

Method: `k2i serve` as a process of its own, asked through the real ADBC driver and with raw bytes.
After each attempt the server must still answer, no file may have appeared, and what the client was
told may hold no path, no stack trace and nothing of this host.
"""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import duckdb
import pyarrow as pa
import pytest
from pyarrow import flight

from k2i_core.duckdb_connection import load_extensions, open_connection
from k2i_core.flight.wire import encoded_bytes
from k2i_core.query.sql_rules import TABLE_FUNCTIONS
from tests.integration.flight.served_table import (
    COLD,
    HOT,
    ServedTable,
    ServerProcess,
    asked,
    connected,
    served,
)

PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Iterator[ServedTable]:
    made = ServedTable.create(tmp_path_factory.mktemp("hostile") / "made")
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(table: ServedTable) -> Iterator[ServerProcess]:
    options = ("--set=serve.max_duration=3s", "--set=serve.max_memory_bytes=128MiB")
    with served(table.pipeline, *options) as started:
        yield started


@pytest.fixture(scope="module")
def connection(server: ServerProcess) -> Iterator[flight_sql.Connection]:
    with connected(server.uri) as one:
        yield one


@pytest.fixture(autouse=True)
def unharmed(table: ServedTable, server: ServerProcess, connection) -> Iterator[None]:
    before = files_of(table)
    yield
    assert server.is_alive(), server.said()
    assert asked(connection, "SELECT count(*) FROM made") == [(COLD + HOT,)]
    assert files_of(table) == before
    assert "Traceback" not in server.said()


def files_of(table: ServedTable) -> set[Path]:
    warehouse = table.pipeline.directory / "warehouse"
    return {path for path in warehouse.rglob("*") if path.is_file()}


def assert_says_nothing_of_this_host(message: str, table: ServedTable) -> None:
    # Of Arrow's own code there is a trace where a schema is refused.
    message = message.replace(
        'Traceback (most recent call last):\n  File "pyarrow/_flight.pyx"', ""
    )
    for telling in (str(table.pipeline.directory), "Traceback", ".py", "site-packages", "/etc/"):
        assert telling not in message, message


def refused(connection: flight_sql.Connection, sql: str, table: ServedTable) -> str:
    with pytest.raises(adbc_driver_manager.Error) as told:
        asked(connection, sql)
    assert_says_nothing_of_this_host(str(told.value), table)
    return str(told.value)


STATEMENTS = (
    "",
    ";",
    "SELECT 1; SELECT 2",
    "CREATE TABLE t (a INT)",
    "CREATE OR REPLACE VIEW made AS SELECT 1",
    "CREATE MACRO f() AS TABLE FROM read_csv('/etc/passwd')",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO made SELECT * FROM made",
    "UPDATE made SET event_id = 0",
    "DELETE FROM made",
    "DROP VIEW made",
    "ALTER VIEW made RENAME TO x",
    "TRUNCATE made",
    "MERGE INTO made USING made m ON true WHEN MATCHED THEN DELETE",
    "COPY made TO '{warehouse}/out.csv'",
    "COPY (SELECT 1) TO '/dev/null'",
    "EXPORT DATABASE '{warehouse}/out'",
    "IMPORT DATABASE '{warehouse}'",
    "ATTACH '{warehouse}/x.db'",
    "ATTACH ':memory:' AS other",
    "DETACH k2i",
    "USE memory",
    "INSTALL spatial",
    "LOAD spatial",
    "LOAD '/tmp/evil.duckdb_extension'",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:1'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET allowed_directories = ['/']",
    "SET VARIABLE x = 1",
    "RESET memory_limit",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "PRAGMA threads = 64",
    "CALL enable_logging(storage = 'file', storage_config = {{'path': '{warehouse}/log'}})",
    "CALL duckdb_settings()",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "BEGIN TRANSACTION",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE COPY made TO '{warehouse}/out.csv'",
    "COMMENT ON VIEW made IS 'mine'",
)

SELECTS = (
    "FROM read_csv('/etc/passwd')",
    "FROM read_csv_auto('/etc/passwd', header = false)",
    "FROM sniff_csv('/etc/passwd')",
    "FROM read_text('/etc/passwd')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_json('/etc/passwd')",
    "FROM read_parquet('{warehouse}/**/*.parquet')",
    "FROM parquet_metadata('{warehouse}/**/*.parquet')",
    "FROM '/etc/passwd'",
    "FROM '{warehouse}/**/*.parquet'",
    'FROM "{warehouse}/x.parquet"',
    "FROM 'https://127.0.0.1:1/x.parquet'",
    "FROM 's3://bucket/x.parquet'",
    "WITH \"/etc/passwd\" AS (SELECT 1) FROM (FROM '/etc/passwd')",
    "SELECT * FROM (WITH \"{warehouse}/x\" AS (SELECT 1) SELECT 2), '{warehouse}/x'",
    "FROM glob('/etc/*')",
    "FROM glob('{warehouse}/**')",
    "FROM iceberg_scan('{warehouse}')",
    "FROM iceberg_metadata('{warehouse}')",
    "FROM iceberg_snapshots('{warehouse}')",
    "FROM avro_scan('{warehouse}')",
    "FROM arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)",
    "FROM arrow_scan_dumb(1::POINTER, 2::POINTER, 3::POINTER)",
    "FROM pandas_scan(1::POINTER)",
    "FROM python_map_function()",
    "FROM seq_scan('made')",
    "FROM query('COPY made TO ''{warehouse}/out.csv''')",
    "FROM query('SELECT 1')",
    "FROM query_table('made')",
    "FROM json_execute_serialized_sql('{{}}')",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://x', 's3')",
    "FROM duckdb_views()",
    "FROM duckdb_views",
    "FROM duckdb_databases()",
    "FROM duckdb_extensions()",
    "FROM duckdb_logs()",
    "FROM duckdb_variables()",
    "FROM duckdb_temporary_files()",
    "FROM pragma_database_list",
    "FROM sqlite_master",
    "FROM pg_catalog.pg_views",
    "FROM pg_settings",
    "FROM information_schema.views",
    "FROM k2i_hot_rows",
    "FROM temp.k2i_hot_rows",
    "FROM memory.main.x",
    "FROM system.main.duckdb_views",
    "WITH duckdb_views AS (SELECT 1) SELECT * FROM (SELECT 2), duckdb_views",
    "FROM enable_logging()",
    "FROM enable_profiling()",
    "FROM checkpoint()",
    "FROM force_checkpoint()",
    "FROM truncate_duckdb_logs()",
    "SHOW DATABASES",
    "SHOW VARIABLES",
    "SHOW SECRETS",
    "SELECT getenv('HOME')",
    "SELECT current_setting('allowed_directories')",
    "SELECT \"current_setting\"('home_directory')",
    "SELECT main.current_setting('home_directory')",
    "SELECT system.main.current_setting('home_directory')",
    "SELECT getvariable('x')",
    "SELECT write_log('x')",
    "SELECT pg_get_viewdef(0)",
    "SELECT sleep_ms(100000)",
    "SELECT pg_sleep(100000)",
    "SELECT (SELECT current_setting('home_directory')) FROM made",
    "SELECT list_transform([1], x -> current_setting('home_directory'))",
    "SELECT 1 ORDER BY current_setting('home_directory')",
    "SELECT 1 WHERE EXISTS (FROM read_text('/etc/passwd'))",
    "SELECT 1 LIMIT (SELECT count(*) FROM read_text('/etc/passwd'))",
    "WITH RECURSIVE r AS (SELECT 1 UNION ALL FROM read_text('/etc/passwd')) FROM r",
    "PIVOT (FROM read_text('/etc/passwd')) ON filename",
    "SELECT * FROM made, LATERAL (FROM read_text(path))",
    "SELECT * FROM made JOIN read_text('/etc/passwd') ON true",
    "SELECT 1 UNION ALL SELECT size FROM read_text('/etc/passwd')",
    "DESCRIBE FROM read_csv('/etc/passwd')",
    "SUMMARIZE FROM read_csv('/etc/passwd')",
    "SUMMARIZE '/etc/passwd'",
    "SELECT $1",
    "SELECT ?",
    "SELECT $path",
)

GREEDY = {
    "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b": "took longer",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r": "",
    "SELECT repeat('x', 4000000000)": "more memory",
    "SELECT range(4000000000)": "more memory",
    "SELECT list(r.range) FROM range(10000000000) r": "more memory",
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000: "",
    "SELECT " + "[" * 5_000 + "]" * 5_000: "",
    "SELECT '" + "x" * (2 << 20) + "'": "shorten it",
}


@pytest.mark.parametrize("sql", [*STATEMENTS, *SELECTS])
def test_a_query_reaches_nothing_but_its_table(connection, table: ServedTable, sql: str) -> None:
    warehouse = table.pipeline.directory / "warehouse"

    refused(connection, sql.format(warehouse=warehouse), table)


@pytest.mark.parametrize("sql", GREEDY, ids=lambda sql: sql[:40])
def test_a_greedy_query_is_ended(connection, table: ServedTable, sql: str) -> None:
    assert GREEDY[sql] in refused(connection, sql, table)


def test_every_table_function_of_the_engine_is_refused_unless_it_only_computes(
    connection, table: ServedTable
) -> None:
    engine = open_connection(1 << 28, 1)
    load_extensions(engine)
    rows = engine.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE function_type IN ('table', 'table_macro', 'pragma')"
    ).fetchall()
    names = sorted({name for (name,) in rows} - TABLE_FUNCTIONS)
    assert len(names) > 60
    for name in names:
        for sql in (f'FROM "{name}"()', f"FROM \"{name}\"('x')"):
            assert f"function {name} is not allowed" in refused(connection, sql, table)


def test_every_view_of_the_engine_is_refused_unless_it_only_names_columns(
    connection, table: ServedTable
) -> None:
    with duckdb.connect() as engine:
        rows = engine.execute(
            "SELECT DISTINCT schema_name, view_name FROM duckdb_views() WHERE internal"
        ).fetchall()
    allowed = {("information_schema", name) for name in ("schemata", "tables", "columns")}
    assert len(rows) > 30
    for schema, view in sorted(set(rows) - allowed):
        assert "does not exist" in refused(connection, f'FROM "{schema}"."{view}"', table)
        assert "does not exist" in refused(connection, f'FROM system."{schema}"."{view}"', table)
    for schema, view in allowed:
        shown = str(asked(connection, f"FROM {schema}.{view}"))
        assert str(table.pipeline.directory) not in shown


def test_what_only_computes_is_allowed(connection) -> None:
    for sql in (
        "SELECT count(*) FROM k2i.e2e.made",
        "SELECT count(*) FROM main.made",
        "WITH a AS (FROM made), b AS (FROM a) SELECT count(*) FROM b",
        "SELECT sum(r.range) FROM range(10) r",
        "SELECT unnest([1, 2]), current_date, pg_typeof(1)",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
        "DESCRIBE made",
        "SUMMARIZE made",
        "SHOW TABLES",
        "SHOW ALL TABLES",
        "SELECT * FROM made QUALIFY row_number() OVER (PARTITION BY country) = 1",
        "VALUES (1), (2)",
    ):
        assert asked(connection, sql), sql


def any_of(name: str, message: bytes) -> bytes:
    return encoded_bytes(1, f"{PREFIX}{name}".encode()) + encoded_bytes(2, message)


def hostile_bytes() -> Iterator[bytes]:
    yield from (b"", b"\x00", b"\xff" * 100, b"\x08" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"{}")
    yield b"\x0a" + b"\xff" * 11
    yield b"FROM made"
    yield encoded_bytes(1, b"type.googleapis.com/google.protobuf.Empty")
    for name in (
        "Nonsense",
        "../../etc/passwd",
        "CommandStatementUpdate",
        "CommandStatementIngest",
    ):
        yield any_of(name, b"")
    yield any_of("CommandStatementSubstraitPlan", b"\x0a\x00")
    for name in ("CommandStatementQuery", "TicketStatementQuery", "CommandPreparedStatementQuery"):
        for message in (b"", b"\x08\x01", b"\x0a\x03\xff\xfe\xfd", b"\x0a\x03ab", b"\x0b", b"\x0a"):
            yield any_of(name, message)
        yield any_of(name, encoded_bytes(1, b"FROM read_text('/etc/passwd')"))
        yield any_of(name, encoded_bytes(1, b"SELECT 1\x00; DROP VIEW made"))
        yield any_of(name, encoded_bytes(1, b"x" * (3 << 20)))
    for name in ("CommandGetSqlInfo", "CommandGetTables", "CommandGetDbSchemas"):
        for message in (b"\x0a\x05\xff", b"\xff" * 20, b"\x0d\x01", b"\x0a\x02\xff\xff"):
            yield any_of(name, message)
    yield any_of("CommandGetSqlInfo", encoded_bytes(1, b"\xff" * 9))
    yield any_of("CommandGetTables", encoded_bytes(3, b"%" * 10_000 + b"x"))
    yield any_of("CommandGetTables", encoded_bytes(3, b"%a" * 2_000))
    chance = random.Random(7)
    valid = any_of("CommandStatementQuery", encoded_bytes(1, b"SELECT 1"))
    for _ in range(150):
        broken = bytearray(valid)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        yield bytes(broken[: chance.randint(1, len(broken))])


def test_bytes_that_are_no_message_are_refused(server: ServerProcess, table: ServedTable) -> None:
    client = flight.connect(server.uri)
    refused_count = 0
    for command in hostile_bytes():
        descriptor = flight.FlightDescriptor.for_command(command)
        for ask in (
            lambda d=descriptor: client.get_flight_info(d),
            lambda d=descriptor: client.get_schema(d),
            lambda c=command: client.do_get(flight.Ticket(c)).read_all(),
            lambda c=command: list(client.do_action(("CreatePreparedStatement", c))),
            lambda c=command: list(client.do_action(("ClosePreparedStatement", c))),
            lambda c=command: list(client.do_action((c[:50].decode("latin-1"), b""))),
        ):
            try:
                ask()
            except (flight.FlightError, pa.ArrowException) as told:
                refused_count += 1
                assert_says_nothing_of_this_host(str(told), table)
    assert refused_count > 500


def test_calls_that_flight_has_and_flight_sql_has_not_are_refused(
    server: ServerProcess, table: ServedTable
) -> None:
    client = flight.connect(server.uri)
    path = flight.FlightDescriptor.for_path("etc", "passwd")
    rows = pa.table({"a": [1]})

    def put() -> None:
        writer, _ = client.do_put(path, rows.schema)
        writer.write_table(rows)
        writer.close()

    def exchange() -> None:
        writer, reader = client.do_exchange(path)
        writer.begin(rows.schema)
        writer.done_writing()
        reader.read_all()

    for ask in (
        put,
        exchange,
        lambda: client.get_flight_info(path),
        lambda: client.get_schema(path),
        lambda: list(client.do_action(("BeginTransaction", b""))),
        lambda: list(client.do_action(("CancelFlightInfo", b""))),
    ):
        with pytest.raises((flight.FlightError, pa.ArrowException)) as told:
            ask()
        assert_says_nothing_of_this_host(str(told.value), table)
    assert list(client.list_flights()) == []
    assert {action.type for action in client.list_actions()} == {
        "CreatePreparedStatement",
        "ClosePreparedStatement",
    }


def test_bytes_that_are_no_http2_are_ignored(server: ServerProcess) -> None:
    for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4_096), b"PRI * HTTP/2.0\r\n\r\nSM"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(sent)


def test_a_message_about_a_lost_file_names_no_file(tmp_path: Path) -> None:
    made = ServedTable.create(tmp_path / "made")
    try:
        with served(made.pipeline) as process, connected(process.uri) as one:
            for path in (tmp_path / "made" / "warehouse").rglob("*.parquet"):
                path.unlink()
            told = refused(one, "SELECT sum(event_id) FROM made", made)
            assert "cannot be read now; try again" in told
            assert ".parquet" not in told
    finally:
        made.close()
