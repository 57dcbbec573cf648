"""DuckDB's own syntax trees, as `json_serialize_sql` gives them: SQL is judged by them, unrun."""

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

Tree: TypeAlias = dict[str, Any]


def nodes_of(tree: object) -> Iterator[Tree]:
    """Yield every mapping of a tree; without recursion, because somebody else chose the depth."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            mapping = cast("Tree", node)
            yield mapping
            waiting.extend(mapping.values())
        elif isinstance(node, list):
            waiting.extend(cast("list[object]", node))
