"""Goal: listings match what was asked for, and a refusal tells nothing of this host.

Method: pure calls.
"""

import pyarrow as pa
import pytest
from pyarrow import flight

from k2i_core.errors import ConfigError, CorruptionError, ErrorKind, UnavailableError
from k2i_core.flight.access import check_exposure, is_loopback
from k2i_core.flight.commands import (
    GetCatalogs,
    GetDbSchemas,
    GetKeys,
    GetSqlInfo,
    GetTables,
    GetTableTypes,
    GetTypeInfo,
)
from k2i_core.flight.listings import ServedTable, listing, listing_schema
from k2i_core.flight.refusals import MESSAGE_LENGTH_MAX, answered

COLUMNS = pa.schema([("a", pa.int64())])
SERVED = ServedTable("k2i", "sales.eu", "orders", lambda: COLUMNS)


def tables(**asked) -> list[dict]:
    command = {
        "catalog": None,
        "schema_pattern": None,
        "table_pattern": None,
        "table_types": (),
        "include_schema": False,
        **asked,
    }
    return listing(GetTables(**command), SERVED).to_pylist()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"catalog": "k2i", "schema_pattern": "sales.eu", "table_pattern": "orders"},
        {"schema_pattern": "%", "table_pattern": "ord%"},
        {"table_pattern": "_rders", "table_types": ("VIEW", "TABLE")},
    ],
)
def test_the_table_is_listed_when_it_is_asked_for(asked) -> None:
    (row,) = tables(**asked)
    assert (row["catalog_name"], row["db_schema_name"], row["table_name"]) == (
        "k2i",
        "sales.eu",
        "orders",
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"catalog": "other"},
        {"catalog": ""},
        {"schema_pattern": "sales"},
        {"schema_pattern": "sales_e"},
        {"table_pattern": "o"},
        {"table_pattern": "order."},
        {"table_types": ("VIEW",)},
    ],
)
def test_the_table_is_not_listed_when_another_is_asked_for(asked) -> None:
    assert tables(**asked) == []


def test_columns_are_listed_on_request() -> None:
    (row,) = tables(include_schema=True)
    assert pa.ipc.read_schema(pa.py_buffer(row["table_schema"])) == COLUMNS


@pytest.mark.parametrize(
    "command",
    [
        GetSqlInfo(()),
        GetCatalogs(),
        GetDbSchemas(None, None),
        GetTables(None, None, None, (), include_schema=True),
        GetTables(None, None, None, (), include_schema=False),
        GetTableTypes(),
        GetKeys(is_primary=True),
        GetKeys(is_primary=False),
        GetTypeInfo(),
    ],
)
def test_a_listing_has_the_columns_that_were_announced(command) -> None:
    assert listing(command, SERVED).schema == listing_schema(command)


def test_facts_are_those_that_were_asked_for() -> None:
    rows = listing(GetSqlInfo((3, 0, 99_999)), SERVED).to_pylist()
    assert rows == [{"info_name": 3, "value": True}, {"info_name": 0, "value": "k2i"}]
    assert listing(GetSqlInfo(()), SERVED).num_rows > 10


def told(error: Exception) -> flight.FlightError:
    with pytest.raises(flight.FlightError) as raised, answered("a call"):
        raise error
    return raised.value


def test_a_wrong_query_is_told_without_paths_and_secrets() -> None:
    error = told(ConfigError("no file /srv/lake/a.parquet at s3://bucket/x/y, password=hunter22\n"))
    assert isinstance(error, flight.FlightServerError)
    for hidden in ("/srv", "bucket", "hunter22", "\n"):
        assert hidden not in str(error)
    assert "no file <path> at" in str(error)
    assert "1 / 2" in str(told(ConfigError("1 / 2")))
    assert len(str(told(ConfigError("x" * 10_000)))) < MESSAGE_LENGTH_MAX + 100


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UnavailableError("cannot open /srv/lake/a"), flight.FlightUnavailableError, "try again"),
        (
            CorruptionError("ledger of /srv/lake/a", kind=ErrorKind.LEDGER_UNREADABLE),
            flight.FlightInternalError,
            "cannot be read: ledger",
        ),
        (RuntimeError("/srv/lake/a"), flight.FlightInternalError, "internal error"),
        (MemoryError("/srv/lake/a"), flight.FlightInternalError, "internal error"),
    ],
)
def test_what_is_not_the_client_s_fault_is_told_in_few_words(error, kind, says: str) -> None:
    answer = told(error)
    assert isinstance(answer, kind)
    assert says in str(answer)
    assert "/srv" not in str(answer)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_host_needs_no_protection(host: str) -> None:
    assert is_loopback(host)
    check_exposure(host, has_token=False, has_tls=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.evil"])
def test_other_hosts_need_token_and_tls(host: str) -> None:
    check_exposure(host, has_token=True, has_tls=True)
    for has_token, has_tls in ((False, False), (True, False), (False, True)):
        with pytest.raises(ConfigError, match="--insecure"):
            check_exposure(host, has_token=has_token, has_tls=has_tls)
