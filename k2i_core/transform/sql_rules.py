"""Which SQL expressions are row-wise: computed from one record, the same at any time.

A record may be read again after a crash, by a dead letter's replay or by another worker, and must
then give the same row. So an expression is refused that counts over records, asks a clock, rolls
dice, or looks at the engine. Functions are allowed by DuckDB's own catalogue, of which only those
count that it calls scalar and consistent, and not by a list of ours; a few that it misjudges are
refused by name. Pure: works on DuckDB's syntax tree.

Dividing by zero fails the record, as in other databases, where DuckDB gives null or infinity.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import cast

from k2i_core.errors import ConfigError
from k2i_core.sql_trees import Tree, nodes_of

DIVISOR = "k2i_divisor"
"""Macro around a divisor; fails where it is zero."""

DIVISOR_SQL = (
    f"CREATE MACRO {DIVISOR}(number) AS "
    # A logarithm of zero fails at run time; a tiny integer widens the type of no other number.
    "CASE WHEN number = 0 THEN CAST(ln(number) AS TINYINT) ELSE number END"
)

_DIVISIONS = frozenset({"/", "//", "%", "divide", "mod", "fdiv", "fmod"})

_CLASSES = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "LAMBDA",
        "OPERATOR",
    }
)
"""Kinds of expressions that look at one record."""

_REFUSED_CLASSES = {
    "DEFAULT": "DEFAULT",
    "PARAMETER": "a parameter",
    "STAR": "a star",
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
}

_MACROS = re.compile(
    r"list_\w+|array_\w+|map_contains_\w+|date_add|days_in_month|fdiv|fmod|json|nullif"
    r"|round_even|roundbankers|split_part"
)
"""Macros of DuckDB that are made of row-wise functions only."""

_MISJUDGED = re.compile(
    r"current_\w+|local\w+|user|session_user|version|getvariable|vector_type|alias|stats"
    r"|json_(?:de)?serialize_\w+|parse_duckdb_\w+|create_sort_key|combine|finalize|__\w+"
    r"|write_log|getenv|in_search_path|pg_\w+|has_\w+_privilege"
)
"""Called consistent by the catalogue, and yet they read a clock or the engine's insides."""

_NAMES_OF_NOW = re.compile(r"current_\w+|local\w+|user|session_user")
"""Names that mean a function where no column has them."""


def check_tree(
    tree: Tree, columns: Collection[str], functions: Collection[str]
) -> tuple[Tree, frozenset[str]]:
    """Check that `SELECT (expression)` is one row-wise expression.

    Args:
        tree: What `json_serialize_sql` returned for it.
        columns: Of the record.
        functions: What it may call, of `row_wise_functions`.

    Returns:
        The same tree with guarded divisors, and the columns that it reads.

    Raises:
        ConfigError: It is something else; the message says what.

    """
    if tree["error"]:
        message = f"is not one SQL expression: {tree.get('error_message', 'unreadable')}"
        raise ConfigError(message)
    expression = _only_expression(tree)
    nodes = list(nodes_of(expression))
    parameters = {name for node in nodes for name in _lambda_parameters(node)}
    known = {name.casefold(): name for name in columns}
    used: set[str] = set()
    for node in nodes:
        kind = node.get("class")
        if kind is None:
            continue
        if kind not in _CLASSES or node.get("type") == "GROUPING_FUNCTION":
            message = f"{_REFUSED_CLASSES.get(kind, kind)} is not row-wise; {_ALLOWED}"
            raise ConfigError(message)
        if kind == "COLUMN_REF":
            name = str(node["column_names"][0]).casefold()
            if name in known:
                used.add(known[name])
            elif name not in parameters:
                message = f'"{name}" is not a column here; columns: {", ".join(columns)}'
                raise ConfigError(message)
        elif kind == "FUNCTION":
            _check_function(node, functions)
            if str(node["function_name"]).lower() in _DIVISIONS:
                _guard(node)
    return tree, frozenset(used)


def row_wise_functions(catalogue: Iterable[tuple[str, str, bool]]) -> frozenset[str]:
    """Return the functions that an expression may call.

    Args:
        catalogue: Name, kind and whether it is consistent, of every function of the engine.

    """
    of_kinds: dict[str, list[bool]] = {}
    for name, kind, is_consistent in catalogue:
        is_macro = kind == "macro" and _MACROS.fullmatch(name) is not None
        of_kinds.setdefault(name, []).append(is_macro or (kind == "scalar" and is_consistent))
    return frozenset(
        name for name, kinds in of_kinds.items() if all(kinds) and not _MISJUDGED.fullmatch(name)
    )


_ALLOWED = "allowed is one expression over the columns of the same record"


def _only_expression(tree: Tree) -> Tree:
    """Return the one expression of the one SELECT, which has nothing else."""
    statements = cast("list[Tree]", tree["statements"])
    node = cast("Tree", statements[0]["node"])
    is_plain = (
        len(statements) == 1
        and node["type"] == "SELECT_NODE"
        and node["from_table"]["type"] == "EMPTY"
        and len(node["select_list"]) == 1
        and not any(node.get(key) for key in ("where_clause", "having", "qualify", "sample"))
        and not any(node.get(key) for key in ("modifiers", "group_expressions", "group_sets"))
        and not node.get("cte_map", {}).get("map")
    )
    if not is_plain:
        message = f"is not one SQL expression; {_ALLOWED}"
        raise ConfigError(message)
    return cast("Tree", node["select_list"][0])


def _check_function(node: Tree, functions: Collection[str]) -> None:
    name = str(node["function_name"]).lower()
    if name == "row":
        message = f"is a list of expressions; {_ALLOWED}"
        raise ConfigError(message)
    # With one argument, age counts from today.
    is_age_of_now = name == "age" and len(node["children"]) == 1
    if name not in functions or is_age_of_now:
        message = (
            f"function {name} is not allowed: aggregates, clocks, chance and the engine's own "
            f"state would give the same record other rows; {_ALLOWED}"
        )
        raise ConfigError(message)
    if any(node.get(key) for key in ("filter", "distinct")) or node["order_bys"]["orders"]:
        message = f"function {name} counts over records here; {_ALLOWED}"
        raise ConfigError(message)


def _guard(node: Tree) -> None:
    """Put the macro around the second argument."""
    children = cast("list[Tree]", node["children"])
    if len(children) == 2 and children[1].get("function_name") != DIVISOR:  # noqa: PLR2004 - number and divisor
        guard = {**node, "function_name": DIVISOR, "is_operator": False, "alias": ""}
        children[1] = {**guard, "children": [children[1]]}


def _lambda_parameters(node: Tree) -> Iterator[str]:
    if node.get("class") != "LAMBDA":
        return
    for inner in nodes_of(node["lhs"]):
        if inner.get("class") == "COLUMN_REF":
            name = str(inner["column_names"][0]).casefold()
            if _NAMES_OF_NOW.fullmatch(name):
                message = f'"{name}" is no name for a parameter; choose another'
                raise ConfigError(message)
            yield name
