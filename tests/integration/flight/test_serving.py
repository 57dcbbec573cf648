"""Goal: every driver reads hot and committed rows; limits, token, TLS and stopping work as told.

Method: a table made without Kafka; limits are tried on a server in this process, whatever concerns
the process (token, certificate, signals) on `k2i serve`.
"""

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import adbc_driver_manager
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from k2i_core.cli.exits import Exit
from k2i_core.clock import SystemClock
from k2i_core.errors import ConfigError
from k2i_core.flight import Address, FlightSqlServer, ServeLimits
from k2i_core.flight.commands import Query, ticket_of
from k2i_core.query.reading import open_pipeline
from tests.e2e.pipelines import eventually
from tests.integration.flight.served_table import (
    TOKEN,
    ServedTable,
    ServerProcess,
    asked,
    connected,
    served,
)
from tests.services.tls import make_certificates

LIMITS = ServeLimits(2, 60.0, 1_000_000, 1 << 30, 256 << 20)
ENDLESS = "SELECT r.range, repeat('x', 100) AS filler FROM range(1000000000) r"


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Iterator[ServedTable]:
    made = ServedTable.create(tmp_path_factory.mktemp("serving") / "made")
    yield made
    made.close()


@pytest.fixture
def start(table: ServedTable) -> Iterator:
    """Start a server in this process with limits; returns its address."""
    servers: list[FlightSqlServer] = []
    with open_pipeline(table.pipeline.path) as reader:

        def started(limits: ServeLimits = LIMITS) -> str:
            address = Address("127.0.0.1", 0)
            servers.append(FlightSqlServer(reader.table(), address, limits, SystemClock()))
            return servers[-1].start()

        started.servers = servers
        yield started
        for server in servers:
            assert server.stop(10)


def test_rows_are_seen_before_and_after_they_are_committed(table: ServedTable, start) -> None:
    with connected(start()) as one:
        counted = "SELECT count(*), count(DISTINCT event_id), max(event_id) FROM made"
        before = table.row_count
        assert asked(one, counted) == [(before, before, before - 1)]
        table.append(10)
        assert asked(one, counted) == [(before + 10, before + 10, before + 9)]


def test_types_arrive_as_the_table_has_them(table: ServedTable, start) -> None:
    with connected(start()) as one, one.cursor() as cursor:
        cursor.execute("FROM made ORDER BY event_id LIMIT 3")
        rows = cursor.fetch_arrow_table()
        with open_pipeline(table.pipeline.path) as reader:
            expected = reader.table().scan(where="event_id < 3").read_all().sort_by("event_id")
    assert rows.schema.names == expected.schema.names
    for row, told in zip(rows.to_pylist(), expected.to_pylist(), strict=True):
        # These rows have no list of headers, which PyIceberg reads as an empty one.
        row["_kafka"]["headers"] = row["_kafka"]["headers"] or []
        assert row == told


def test_pandas_and_polars_read_it(table: ServedTable, start) -> None:
    with connected(start()) as one:
        frame = pd.read_sql("SELECT event_id, price FROM made", one)
        assert len(frame) == table.row_count
        frame = pl.read_database("SELECT event_id, price FROM made", one)
        assert frame.height == table.row_count


def test_a_driver_can_ask_what_there_is(start) -> None:
    with connected(start()) as one:
        assert one.adbc_get_info()["vendor_name"] == "k2i"
        assert one.adbc_get_table_types() == ["TABLE"]
        (catalog,) = one.adbc_get_objects(depth="all").read_all().to_pylist()
        (schema,) = catalog["catalog_db_schemas"]
        (found,) = schema["db_schema_tables"]
        names = (catalog["catalog_name"], schema["db_schema_name"], found["table_name"])
        assert names == ("k2i", "e2e", "made")
        columns = [column["column_name"] for column in found["table_columns"]]
        assert columns == one.adbc_get_table_schema("made").names
        assert columns[0] == "event_id"
        # What a driver is told is what it can ask for.
        assert asked(one, f'SELECT count(*) FROM "{names[0]}"."{names[1]}"."{names[2]}"')
        (nothing,) = one.adbc_get_objects(table_name_filter="other").read_all().to_pylist()
        assert not nothing["catalog_db_schemas"][0]["db_schema_tables"]


def test_columns_are_told_without_running_the_query(start) -> None:
    with connected(start()) as one, one.cursor() as cursor:
        schema = cursor.adbc_execute_schema("SELECT count(*) AS n FROM made")
        assert schema.names == ["n"]


def test_a_result_of_many_batches_comes_whole_and_in_small_messages(start) -> None:
    uri = start()
    wide = "SELECT r.range AS n, repeat('x', 2000) AS filler FROM range(40000) r"
    with connected(uri) as one, one.cursor() as cursor:
        cursor.execute(wide)
        rows = cursor.fetch_arrow_table()
    assert rows.column("n").to_pylist() == list(range(40_000))
    client = flight.connect(uri)
    batches = [chunk.data for chunk in client.do_get(flight.Ticket(ticket_of(Query(wide))))]
    assert max(batch.nbytes for batch in batches) <= 4 << 20


@pytest.mark.parametrize(
    ("limits", "sql", "says"),
    [
        (ServeLimits(2, 60, 100, 1 << 30, 1 << 28), "FROM made", "max_rows=100; add a LIMIT"),
        (ServeLimits(2, 60, 10**9, 10_000, 1 << 28), "FROM made", "max_bytes=10000; add a LIMIT"),
        (ServeLimits(2, 0.5, 10**9, 1 << 40, 1 << 28), ENDLESS, "longer than"),
    ],
)
def test_what_takes_too_much_fails_and_says_what_to_do(start, limits, sql: str, says: str) -> None:
    with connected(start(limits)) as one:
        with pytest.raises(adbc_driver_manager.Error, match=says):
            asked(one, sql)
        # A result of just the limit is not too much, and the place is free again; on a machine that
        # does ten other things it may take longer than half a second, too.
        found: list[tuple] = []
        limited = "SELECT event_id FROM made LIMIT 100"
        eventually(lambda: succeeds(lambda: found.extend(asked(one, limited))), 30)
        assert len(found) == 100


def stalled(uri: str) -> flight.FlightStreamReader:
    """Begin to read, and read no further."""
    reader = flight.connect(uri).do_get(flight.Ticket(ticket_of(Query(ENDLESS))))
    reader.read_chunk()
    return reader


def test_more_queries_than_allowed_are_told_to_come_back(start) -> None:
    uri = start(ServeLimits(2, 60, 10**9, 1 << 40, 1 << 28))
    first, second = stalled(uri), stalled(uri)
    with connected(uri) as one:
        with pytest.raises(adbc_driver_manager.Error, match=r"busy: max_queries=2.*try again"):
            asked(one, "SELECT 1")
        first.cancel()
        eventually(lambda: succeeds(lambda: asked(one, "SELECT 1")), 30)
    second.cancel()


def test_a_client_that_does_not_read_on_loses_its_place_at_the_deadline(start) -> None:
    uri = start(ServeLimits(1, 1.5, 10**9, 1 << 40, 1 << 28))
    reader = stalled(uri)
    with connected(uri) as one:
        with pytest.raises(adbc_driver_manager.Error, match="busy"):
            asked(one, "SELECT 1")
        eventually(lambda: succeeds(lambda: asked(one, "SELECT 1")), 30)
    with pytest.raises(flight.FlightTimedOutError, match=r"max_duration=1\.5s; read faster"):
        reader.read_all()


def succeeds(ask) -> bool:
    try:
        ask()
    except adbc_driver_manager.Error:
        return False
    return True


def test_many_threads_at_once_all_get_their_rows(table: ServedTable, start) -> None:
    uri = start(ServeLimits(8, 60, 10**9, 1 << 40, 1 << 28))
    found: list[int] = []

    def read() -> None:
        with connected(uri) as one:
            found.extend(len(asked(one, "SELECT event_id FROM made")) for _ in range(5))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [table.row_count] * 30


def test_a_server_that_stops_lets_queries_end_and_takes_no_more(table: ServedTable, start) -> None:
    uri = start()
    reader = flight.connect(uri).do_get(flight.Ticket(ticket_of(Query("FROM made"))))
    server = start.servers.pop()
    outcome: list[bool] = []
    stopping = threading.Thread(target=lambda: outcome.append(server.stop(20)))
    stopping.start()
    assert reader.read_all().num_rows == table.row_count
    stopping.join(30)
    assert outcome == [True]
    with pytest.raises((flight.FlightError, pa.ArrowException)):
        list(flight.connect(uri).list_actions())


def test_a_port_that_is_taken_is_a_wrong_setting(table: ServedTable) -> None:
    with socket.socket() as taken, open_pipeline(table.pipeline.path) as reader:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"cannot listen on host=127\.0\.0\.1 port="):
            FlightSqlServer(reader.table(), address, LIMITS, SystemClock()).start()


@pytest.fixture(scope="module")
def guarded(table: ServedTable) -> Iterator[ServerProcess]:
    with served(table.pipeline, environ={"K2I__SERVE__TOKEN": TOKEN}) as process:
        yield process


def test_the_token_opens_as_bearer_and_as_password(guarded: ServerProcess, table) -> None:
    for options in ({"token": TOKEN}, {"username": "anybody", "password": TOKEN}):
        with connected(guarded.uri, **options) as one:
            assert asked(one, "SELECT count(*) FROM made") == [(table.row_count,)]
    client = flight.connect(guarded.uri)
    header, value = client.authenticate_basic_token("anybody", TOKEN)
    options = flight.FlightCallOptions(headers=[(header, value)])
    assert list(client.list_actions(options))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        f"Basic {TOKEN}",
        "Basic !!!!",
        "Basic " + "A" * 100_000,
        "Negotiate abc",
    ],
)
def test_without_the_token_nothing_is_answered(guarded: ServerProcess, header) -> None:
    client = flight.connect(guarded.uri)
    sent = [] if header is None else [(b"authorization", header.encode())]
    options = flight.FlightCallOptions(headers=sent)
    command = flight.FlightDescriptor.for_command(ticket_of(Query("SELECT 1")))
    for ask in (
        lambda: client.get_flight_info(command, options),
        lambda: client.get_schema(command, options),
        lambda: client.do_get(flight.Ticket(command.command), options).read_all(),
        lambda: list(client.do_action(("ClosePreparedStatement", b""), options)),
        lambda: list(client.list_actions(options)),
        lambda: list(client.list_flights(options=options)),
    ):
        with pytest.raises((flight.FlightError, pa.ArrowException, OSError)) as told:
            ask()
        assert TOKEN not in str(told.value)
        assert "Traceback" not in str(told.value)
        if header is None or len(header) < 1_000:
            assert "a token is needed" in str(told.value)


def test_the_token_is_printed_nowhere(guarded: ServerProcess, table: ServedTable) -> None:
    assert "serving" in guarded.said()
    assert TOKEN not in guarded.said()
    command_line = Path(f"/proc/{guarded.process.pid}/cmdline")
    if command_line.exists():
        assert TOKEN.encode() not in command_line.read_bytes()
    done = table.pipeline.k2i("serve", "--set=serve.token=tiny-7d1f", "--port=0")
    assert done.returncode == Exit.CONFIG
    assert "too short; write at least 16 characters" in done.stderr


def test_tls_is_spoken_with_the_certificate_of_the_settings(
    table: ServedTable, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    options = [
        f"--set=serve.{key}={certificates.server}" for key in ("certificate", "certificate_key")
    ]
    with served(table.pipeline, *options, environ={"K2I__SERVE__TOKEN": TOKEN}) as process:
        authority = certificates.authority.read_text()
        secure = f"grpc+tls://localhost:{process.port}"
        trusted = {DatabaseOptions.TLS_ROOT_CERTS.value: authority}
        with connected(secure, TOKEN, **trusted) as one:
            assert asked(one, "SELECT 1") == [(1,)]
        with connected(secure, TOKEN) as one, pytest.raises(adbc_driver_manager.Error):
            asked(one, "SELECT 1")
        assert "grpc+tls://" in process.said()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host=0.0.0.0"], "no serve.token, no serve.certificate"),
        (["--host=::"], "can be reached from other hosts"),
        (["--host=example.org", "--set=serve.token=abcdefghijklmnopqrst"], "no serve.certificate"),
        (["--set=serve.certificate=/nowhere"], "certificate_key: is missing"),
        (
            ["--set=serve.certificate=/nowhere", "--set=serve.certificate_key=/nowhere"],
            "serve.certificate cannot be read",
        ),
    ],
)
def test_what_would_leave_the_door_open_is_refused(table: ServedTable, options, says) -> None:
    done = table.pipeline.k2i("serve", "--port=0", *options)

    assert done.returncode == Exit.CONFIG, done.stderr
    assert says in done.stderr


def test_other_hosts_are_let_in_when_somebody_says_so(table: ServedTable) -> None:
    with (
        served(table.pipeline, "--host=0.0.0.0", "--insecure") as process,
        connected(process.uri) as one,
    ):
        assert asked(one, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_although_a_client_does_not_read(
    table: ServedTable, number: int
) -> None:
    limits = ("--set=serve.max_duration=2s", "--set=serve.max_rows=1000000000")
    with served(table.pipeline, *limits) as process:
        reader = stalled(process.uri)
        began = time.monotonic()
        process.process.send_signal(number)
        assert process.process.wait(30) == Exit.OK, process.said()
        assert time.monotonic() - began < 25
        assert "Traceback" not in process.said()
        assert re.search(r'"event": "served"|served ', process.said())
        del reader


def test_an_idle_server_ends_at_once(table: ServedTable) -> None:
    with served(table.pipeline) as process:
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(10) == Exit.OK, process.said()
        assert not process.log.with_suffix(".port").exists()


def test_a_server_waits_for_a_table_that_is_made_later(tmp_path: Path) -> None:
    made = ServedTable.create(tmp_path / "later")
    made.close()
    with served(made.pipeline, "--set=table.identifier=e2e.not_yet") as process:
        with (
            connected(process.uri) as one,
            pytest.raises(adbc_driver_manager.Error, match="not_yet"),
        ):
            asked(one, "SELECT 1")
        assert process.is_alive()
        assert "table cannot be read yet" in process.said()
