"""An expression is row-wise, or it is refused.

Goal: whatever a user writes, a record gives the same row whenever and beside whatever it is read.
Method: expressions of each kind that is not row-wise, compiled by the real engine; and every
function that DuckDB has, by its own catalogue.
"""

import duckdb
import pytest

from k2i_core.errors import ConfigError
from k2i_core.transform.sql_engine import SqlEngine

COLUMNS = ["a", "b", "ts"]


@pytest.fixture(scope="module")
def engine() -> SqlEngine:
    return SqlEngine()


ROW_WISE = [
    ("a + b", ("a", "b")),
    ("B -- the second", ("b",)),
    ("CASE WHEN a > 1 THEN 'x' ELSE upper(b) END", ("a", "b")),
    ("list_sum([x + a for x in [1, 2] if x > b])", ("a", "b")),
    ("list_transform([1], x -> x + a)", ("a",)),
    ("ts AT TIME ZONE 'Europe/Berlin'", ("ts",)),
    ("nullif(a, 1)", ("a",)),
    ("json_extract_string(b, '$.x')", ("b",)),
    ("CAST(b AS DECIMAL(4, 1))", ("b",)),
    ("age(ts, ts)", ("ts",)),
    ("1", ()),
]


@pytest.mark.parametrize(("sql", "columns"), ROW_WISE)
def test_a_row_wise_expression_reads_its_columns_and_no_others(engine, sql, columns):
    assert engine.compile(sql, COLUMNS).columns == columns


NOT_ROW_WISE = [
    "sum(a)",
    "count(*)",
    "list(a)",
    "string_agg(b, ',')",
    "row_number() OVER ()",
    "sum(a) OVER (ORDER BY b)",
    "(SELECT 1)",
    "a IN (SELECT 1)",
    "EXISTS (SELECT 1)",
    "unnest([1])",
    "random()",
    "uuid()",
    "nextval('s')",
    "now()",
    "current_date",
    "current_timestamp",
    "localtimestamp",
    "current_localtimestamp()",
    "today()",
    "age(ts)",
    "ago(interval 1 day)",
    "get_current_time()",
    "list_transform([1], current_date -> 1)",
    "current_setting('memory_limit')",
    "getvariable('x')",
    "getenv('HOME')",
    "version()",
    "user",
    "read_text('/etc/passwd')",
    "a, b",
    "a AS c",
    "*",
    "COLUMNS(*)",
    "$1",
    "?",
    "DEFAULT",
    "a FROM records",
    "a) FROM records WHERE (b",
    "a) LIMIT (1",
    "a) UNION SELECT (1",
    "a); DROP TABLE records; SELECT (1",
    "",
    "a +",
    "missing",
    "records.a",
]


@pytest.mark.parametrize("sql", NOT_ROW_WISE)
def test_anything_else_is_refused(engine, sql):
    with pytest.raises(ConfigError):
        engine.compile(sql, COLUMNS)


def test_text_that_names_a_moment_of_now_is_no_time():
    for text in ("now", "today", "tomorrow", "yesterday"):
        for type_ in ("DATE", "TIMESTAMP", "TIMESTAMPTZ"):
            with pytest.raises(duckdb.Error):
                duckdb.sql(f"SELECT CAST('{text}' AS {type_})").fetchall()


def test_of_duckdbs_functions_only_scalar_ones_that_are_consistent_are_allowed(engine):
    functions = duckdb.sql(
        "SELECT DISTINCT function_name, function_type FROM duckdb_functions() "
        "WHERE function_type <> 'scalar' AND regexp_full_match(function_name, '[a-z_0-9]+') "
        "AND function_name NOT IN (SELECT function_name FROM duckdb_functions() "
        "WHERE function_type = 'scalar')"
    ).fetchall()
    allowed = set()
    for name, kind in functions:
        try:
            engine.compile(f'"{name}"(a)', COLUMNS)
        except ConfigError:
            continue
        assert kind == "macro"
        allowed.add(name)
    assert not {name for name in allowed if not name.startswith(("list_", "array_"))} - {
        "date_add",
        "days_in_month",
        "fdiv",
        "fmod",
        "json",
        "map_contains_entry",
        "map_contains_value",
        "nullif",
        "round_even",
        "roundbankers",
        "split_part",
    }


def test_the_engine_reaches_no_file(engine, tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    with engine._connection() as connection, pytest.raises(duckdb.PermissionException):
        connection.sql(f"SELECT * FROM read_text('{path}')").fetchall()
