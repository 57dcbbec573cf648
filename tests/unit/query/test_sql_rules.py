"""Goal: a query may name its table, its own subqueries and functions that compute, nothing else.

Method: DuckDB parses each query, nothing runs; what hides in every corner of a SELECT is tried.
"""

import json

import duckdb
import pytest

from k2i_core.errors import ConfigError
from k2i_core.query.sql_rules import check_sql

TABLE = ("sales", "eu", "orders")


def check(sql: str) -> None:
    with duckdb.connect() as engine:
        row = engine.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    assert row is not None
    check_sql(row[0], TABLE, "k2i")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "FROM orders",
        "FROM ORDERS",
        "FROM main.orders",
        'FROM "sales.eu".orders',
        'FROM k2i."sales.eu".orders',
        "WITH a AS (FROM orders) SELECT * FROM a JOIN orders USING (id)",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) FROM r",
        "SELECT * FROM range(3), unnest([1, 2])",
        "FROM information_schema.columns",
        "SELECT pg_typeof(1), pg_size_pretty(1)",
        "DESCRIBE orders",
        "SHOW TABLES",
    ],
)
def test_what_belongs_to_the_table_is_allowed(sql: str) -> None:
    check(sql)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("FROM others", "table others does not exist; this query sees sales.eu.orders"),
        ("FROM other.orders", "other.orders does not exist"),
        ("FROM memory.main.orders", "memory.main.orders does not exist"),
        ("FROM 'a.parquet'", "does not exist"),
        ("WITH \"a.csv\" AS (SELECT 1) FROM 'a.csv'", "does not exist"),
        ("WITH pg_settings AS (SELECT 1) FROM pg_settings", "does not exist"),
        ("WITH a AS (SELECT 1) FROM main.a", "does not exist"),
        ("FROM read_text('x')", "function read_text is not allowed"),
        ("FROM READ_TEXT('x')", "function read_text is not allowed"),
        ("FROM arrow_scan(1::POINTER, 1::POINTER, 1::POINTER)", "function arrow_scan is not"),
        ("SELECT (SELECT count(*) FROM glob('*'))", "function glob is not allowed"),
        ("SELECT current_setting('x')", "function current_setting is not allowed"),
        ("SELECT [current_setting(x) FOR x IN ['a']]", "function current_setting is not allowed"),
        ("SELECT sum(sleep_ms(1)) OVER () FROM orders", "function sleep_ms is not allowed"),
        ("SELECT pg_get_viewdef(1)", "function pg_get_viewdef is not allowed"),
        ("SHOW DATABASES", "shows tables and describes"),
        ("SELECT ?", "takes no parameters"),
        ("SELECT $a", "takes no parameters"),
        ("DROP TABLE orders", "cannot be checked"),
    ],
)
def test_anything_else_is_refused_with_what_is_there(sql: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(").replace("*", r"\*")):
        check(sql)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000

    with pytest.raises(ConfigError, match="nested too deeply"):
        check_sql(deep, TABLE, "k2i")
    # As deep as can be read, and no recursion of our own.
    tree: object = {"type": "TABLE_FUNCTION", "function": {"function_name": "glob"}}
    for _ in range(300):
        tree = [tree]
    with pytest.raises(ConfigError, match="glob"):
        check_sql(json.dumps({"error": False, "tree": tree}), TABLE, "k2i")
