"""Other tables of the catalog whose folders meet a table's folders.

Iceberg lets two tables share a location, or one lie inside another. Then what is an orphan of one
may be a file of the other, so orphan removal refuses.
"""

from collections import deque
from collections.abc import Iterator

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from k2i_core.errors import ConfigError, CorruptionError
from k2i_core.iceberg.deletion import folders_of
from k2i_core.iceberg.failures import foreign_exceptions, translate, translated
from k2i_core.iceberg.locations import is_inside, normalise

TABLE_COUNT_MAX = 2_000
"""Tables looked at. Larger takes minutes in a large catalog, each is one request; smaller leaves
more of them out, which the report says."""

NAMESPACE_COUNT_MAX = 2_000


def find_neighbours(catalog: Catalog, table: Table) -> tuple[list[str], int]:
    """Find tables whose folders equal, contain or lie in those of `table`.

    Args:
        catalog: Where to look: all its namespaces, up to `TABLE_COUNT_MAX` tables.
        table: As it was loaded.

    Returns:
        One line for each such table, and how many tables could not be looked at.

    Raises:
        UnavailableError: The catalog did not answer.

    """
    found: list[str] = []
    own_name, own_folders = table.name(), folders_of(table)
    skipped_count = 0
    for number, identifier in enumerate(_tables(catalog)):
        if identifier == own_name:
            continue
        if number >= TABLE_COUNT_MAX:
            skipped_count += 1
            continue
        try:
            other = _load(catalog, identifier)
        except (ConfigError, CorruptionError):
            skipped_count += 1  # not an Iceberg table, or not ours to read
            continue
        if other is None:
            continue
        for folder in folders_of(other):
            if any(_meet(folder, own) for own in own_folders):
                found.append(f"{'.'.join(identifier)} at {folder}")
                break
    return found, skipped_count


def _load(catalog: Catalog, identifier: Identifier) -> Table | None:
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        return None  # dropped meanwhile
    except foreign_exceptions() as error:
        raise translate(error, f"load table {'.'.join(identifier)}") from error


def _tables(catalog: Catalog) -> Iterator[Identifier]:
    with translated("list the namespaces of the catalog"):
        waiting = deque(catalog.list_namespaces())
    seen: set[Identifier] = set()
    while waiting and len(seen) < NAMESPACE_COUNT_MAX:
        namespace = waiting.popleft()
        if namespace in seen:
            continue
        seen.add(namespace)
        with translated(f"list the tables of {'.'.join(namespace)}"):
            yield from catalog.list_tables(namespace)
            # Some catalogs know no nested namespaces, and some list the one asked for.
            waiting.extend(n for n in _below(catalog, namespace) if n not in seen)


def _below(catalog: Catalog, namespace: Identifier) -> list[Identifier]:
    try:
        return list(catalog.list_namespaces(namespace))
    except NotImplementedError:
        return []


def _meet(one: str, other: str) -> bool:
    return (
        normalise(one).rstrip("/") == normalise(other).rstrip("/")
        or is_inside(one, (other,))
        or is_inside(other, (one,))
    )
