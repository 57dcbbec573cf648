"""What a query may name: the table, its own subqueries, and functions that only compute.

DuckDB's lock closes files, hosts and settings, but leaves functions that read or steer the engine
itself: settings, views with the paths of the table's files, logs, even memory addresses
(`arrow_scan`). So the parsed query is looked through before it runs. Of table functions those
below are allowed and no others, so that one of a later DuckDB is refused until somebody looked at
it. Pure: works on DuckDB's own syntax tree.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import cast

from k2i_core.errors import ConfigError
from k2i_core.sql_trees import Tree, nodes_of

TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"}
)
"""Table functions that compute from their arguments alone."""

_CATALOG_VIEWS = frozenset({"schemata", "tables", "columns"})
"""Views of `information_schema` that tools ask for names and types. `views` holds paths."""

_SHOWN = frozenset({'"tables"', "__show_tables_expanded"})
"""What SHOW may list; SHOW ALL would list settings."""

_REFUSED_FUNCTIONS = re.compile(
    r"current_setting|getenv|getvariable|write_log|sleep_ms|pg_(?!typeof$|size_pretty$)\w+"
)
"""Functions that read or steer the engine or the process, or only hold it up."""

_PLAIN_NAME = re.compile(r"(?!duckdb_|pragma_|sqlite_|pg_)\w+")
"""A subquery of any other name could hide a file or a view of the engine that has this name."""


def check_sql(serialized: str, table: tuple[str, ...], catalog: str) -> None:
    """Check that a query reaches nothing but its table.

    Args:
        serialized: What `json_serialize_sql` returned for it.
        table: Namespace and name of the table.
        catalog: What the engine calls the database that the table is in.

    Raises:
        ConfigError: It reaches something else, or cannot be understood.

    """
    try:
        tree = json.loads(serialized)
    except (ValueError, RecursionError) as error:
        message = "query is nested too deeply; write it with fewer levels"
        raise ConfigError(message) from error
    if tree["error"]:
        message = f"query cannot be checked: {tree.get('error_message', 'no single SELECT')}"
        raise ConfigError(message)
    nodes = list(nodes_of(tree))
    subqueries = {name for node in nodes for name in _subquery_names(node)}
    rules = _Rules(table, catalog, subqueries)
    for node in nodes:
        rules.check(node)


class _Rules:
    """The rules for one query."""

    def __init__(self, table: tuple[str, ...], catalog: str, subqueries: Collection[str]) -> None:
        *namespace, name = table
        self._shown_name = ".".join(table)
        self._schema, self._name = ".".join(namespace).lower(), name.lower()
        self._catalog = catalog.lower()
        self._subqueries = subqueries

    def check(self, node: Tree) -> None:
        """Refuse a node of the tree that reaches something else."""
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise ConfigError(self._no_function(name))
        elif kind == "BASE_TABLE":
            self._check_table(node)
        elif kind == "SHOW_REF":
            if node.get("query") is None and node.get("table_name") not in _SHOWN:
                message = f"a query shows tables and describes {self._shown_name}, nothing else"
                raise ConfigError(message)
        elif kind == "VALUE_PARAMETER":
            message = "a query takes no parameters; write the values into it"
            raise ConfigError(message)
        elif node.get("class") == "FUNCTION":
            name = str(node.get("function_name", "")).lower()
            if _REFUSED_FUNCTIONS.fullmatch(name):
                raise ConfigError(self._no_function(name))

    def _check_table(self, node: Tree) -> None:
        catalog, schema, name = (
            str(node.get(key) or "").lower()
            for key in ("catalog_name", "schema_name", "table_name")
        )
        if catalog in {"", self._catalog}:
            if name == self._name and schema in {"", "main", self._schema}:
                return
            if schema == "information_schema" and name in _CATALOG_VIEWS:
                return
        if not catalog and not schema and name in self._subqueries:
            return
        asked = ".".join(part for part in (catalog, schema, name) if part)
        message = f"table {asked} does not exist; this query sees {self._shown_name}"
        raise ConfigError(message)

    def _no_function(self, name: str) -> str:
        return (
            f"function {name} is not allowed: a query reaches {self._shown_name} and nothing "
            "else, no files, no hosts, no settings"
        )


def _subquery_names(node: Tree) -> Iterator[str]:
    """Yield the names that a node gives to subqueries in WITH."""
    cte_map = node.get("cte_map")
    if isinstance(cte_map, dict):
        for entry in cast("dict[str, list[dict[str, object]]]", cte_map).get("map", []):
            yield from _plain(entry.get("key"))
    if "cte_name" in node:
        yield from _plain(node["cte_name"])


def _plain(name: object) -> Iterator[str]:
    if isinstance(name, str) and _PLAIN_NAME.fullmatch(name.lower()):
        yield name.lower()
