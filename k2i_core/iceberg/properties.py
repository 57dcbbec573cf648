"""One property of a table, changed so that no other writer's change is lost."""

from collections.abc import Callable

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2i_core.errors import CommitStateUnknownError, ConflictError, UnavailableError
from k2i_core.iceberg.failures import translated

RACE_COUNT_MAX = 10
"""How often a lost race is run again. Each one lost means that another writer got somewhere."""


def change_property(
    catalog: Catalog, identifier: str, name: str, change: Callable[[str | None], str]
) -> Table:
    """Change a property, and look whether it stayed changed.

    Args:
        catalog: Used by this thread only.
        identifier: Namespace and name, joined by dots.
        name: Of the property.
        change: What it has → what it should have; gives the same for its own result.

    Returns:
        The table, loaded after the change.

    Raises:
        ConfigError: The table does not exist.
        UnavailableError: The catalog did not answer, or others change the property all the time.

    """
    for _ in range(RACE_COUNT_MAX):
        with translated(f"load table {identifier}"):
            table = catalog.load_table(identifier)
        wanted = change(table.properties.get(name))
        if table.properties.get(name) == wanted:
            return table
        try:
            with (
                translated(f"change property {name} of table {identifier}"),
                table.transaction() as transaction,
            ):
                transaction.set_properties({name: wanted})
        except (ConflictError, CommitStateUnknownError):
            pass  # another change landed, or perhaps ours: look again
    message = f"property {name} of table={identifier} changed {RACE_COUNT_MAX} times meanwhile"
    raise UnavailableError(message)
