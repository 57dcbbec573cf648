"""Queries over committed rows, on a real table.

Goal: a query sees exactly the committed rows under both names of the table, and reaches nothing
else; what goes wrong says what to do.
Method: a small table in a SQLite catalog; every way out that DuckDB has is tried.
"""

from pathlib import Path

import pytest
from pyiceberg.types import StringType

from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.query.committed import QueryLimits, query
from tests.integration.audit.ledger_table import P0, LedgerTable


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> LedgerTable:
    lake = LedgerTable.create(tmp_path_factory.mktemp("lake"))
    lake.commit(P0, 0, 10, rows=range(10))
    lake.commit(P0, 10, 30, rows=range(10, 30))
    return lake


def rows(lake: LedgerTable, sql: str, **limits) -> list[tuple]:
    with query(lake.table, sql, QueryLimits(**limits)) as result:
        return [tuple(row.values()) for row in result.read_all().to_pylist()]


@pytest.mark.parametrize("name", ["orders", "sales.orders", '"sales"."orders"'])
def test_the_table_has_both_its_names(lake, name):
    assert rows(lake, f"SELECT count(*), sum(order_id) FROM {name}") == [(30, 435)]


def test_the_kafka_column_can_be_queried(lake):
    sql = "SELECT _kafka.topic, max(_kafka.offset) FROM orders GROUP BY ALL"
    assert rows(lake, sql) == [("orders", 29)]


def test_a_query_may_start_with_with_and_describe_the_table(lake):
    assert rows(lake, "WITH o AS (FROM orders) SELECT count(*) FROM o;") == [(30,)]
    assert [r[0] for r in rows(lake, "DESCRIBE orders")] == ["order_id", "customer", "_kafka"]


def test_a_column_added_later_is_null_in_older_rows(tmp_path):
    lake = LedgerTable.create(tmp_path)
    lake.commit(P0, 0, 3, rows=range(3))
    with lake.table.update_schema() as update:
        update.add_column("note", StringType())

    assert rows(lake, "SELECT count(*), count(note) FROM orders") == [(3, 0)]


def test_a_table_without_a_commit_has_columns_and_no_rows(tmp_path):
    lake = LedgerTable.create(tmp_path)

    assert rows(lake, "SELECT count(*) FROM sales.orders") == [(0,)]
    with query(lake.table, "FROM orders") as result:
        assert result.schema.names == ["order_id", "customer", "_kafka"]


def test_the_row_limit_cuts_and_says_so(lake):
    with query(lake.table, "FROM orders", QueryLimits(row_count_max=7)) as result:
        assert result.read_all().num_rows == 7
        assert result.is_cut


def test_a_result_of_exactly_the_limit_is_not_cut(lake):
    with query(lake.table, "FROM orders", QueryLimits(row_count_max=30)) as result:
        assert result.read_all().num_rows == 30
        assert not result.is_cut


def test_the_time_limit_ends_a_query(lake):
    sql = "SELECT sum(a.order_id * b.range) FROM orders a, range(100000000000) b"

    with pytest.raises(ConfigError, match=r"longer than seconds_max=0\.3"):
        rows(lake, sql, seconds_max=0.3)


def test_the_time_limit_ends_a_stream(lake):
    sql = "SELECT a.order_id, b.range FROM orders a, range(100000000000) b"

    with (
        pytest.raises(ConfigError, match=r"longer than seconds_max=0\.5"),
        query(lake.table, sql, QueryLimits(seconds_max=0.5)) as result,
    ):
        for _ in result.batches():
            pass


def test_an_unknown_column_is_answered_with_those_that_exist(lake):
    with pytest.raises(ConfigError, match=r"\"nope\" not found.*columns of sales.orders: order_id"):
        rows(lake, "SELECT nope FROM orders")


def test_an_unknown_table_is_answered_with_the_one_that_exists(lake):
    with pytest.raises(ConfigError, match=r"nope does not exist.*this query sees sales.orders"):
        rows(lake, "FROM nope")


def test_a_syntax_error_is_one_line(lake):
    with pytest.raises(ConfigError, match="syntax error") as error:
        rows(lake, "SELEC 1")

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1; SELECT 2",
        "COPY orders TO '{lake}/out.csv'",
        "EXPLAIN ANALYZE COPY orders TO '{lake}/out.csv'",
        "CREATE TABLE t AS FROM orders",
        "ATTACH '{other}/x.db'",
        "SET enable_external_access = true",
        "INSTALL spatial",
        "LOAD spatial",
        "DROP VIEW orders",
        "PREPARE p AS COPY orders TO '{lake}/out.csv'",
    ],
)
def test_anything_but_one_select_is_refused(lake, tmp_path, sql):
    location = lake.table.location().removeprefix("file://")

    with pytest.raises(ConfigError, match="a query is one SELECT"):
        rows(lake, sql.format(lake=location, other=tmp_path))

    assert not (Path(location) / "out.csv").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{other}/secret.txt')",
        "FROM read_csv('{other}/secret.txt')",
        "FROM '{other}/secret.txt'",
        "FROM glob('{other}/*')",
        "FROM read_text('{lake}/../../../secret.txt')",
        "FROM read_csv('http://127.0.0.1:1/x')",
        "FROM iceberg_scan('{other}/secret.txt')",
        "FROM query('COPY orders TO ''{other}/out.csv''')",
        "SELECT getenv('HOME')",
    ],
)
def test_a_select_reaches_no_other_file_and_no_host(lake, tmp_path, sql):
    (tmp_path / "secret.txt").write_text("secret")
    location = lake.table.location().removeprefix("file://")

    with pytest.raises(ConfigError):
        rows(lake, sql.format(lake=location, other=tmp_path))


def test_python_variables_are_out_of_reach(lake):
    private_rows = lake.table.scan().to_arrow()

    with pytest.raises(ConfigError, match="does not exist"):
        rows(lake, "FROM private_rows")
    assert private_rows.num_rows == 30


def test_a_lost_data_file_is_unavailable(tmp_path):
    lake = LedgerTable.create(tmp_path)
    lake.commit(P0, 0, 3, rows=range(3))
    for path in lake.table.inspect.files()["file_path"]:
        lake.table.io.delete(path.as_py())

    with pytest.raises(UnavailableError, match="cannot be read"):
        rows(lake, "SELECT sum(order_id) FROM orders")


def test_a_result_can_be_closed_before_it_is_read(lake):
    result = query(lake.table, "FROM orders")
    result.close()
    result.close()
