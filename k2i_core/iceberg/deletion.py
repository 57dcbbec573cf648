"""Deleting many files of a table: several at once, only inside the table, gone already is fine."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

from pyiceberg.table import Table

from k2i_core.errors import ConfigError
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.locations import is_inside

DELETER_COUNT = 16
"""Deletions at once: on an object store each waits for the network. Larger asks more of the store
than it may give one client."""

STEP_COUNT = 256
"""Deletions between two moments at which progress is told and an interrupt is heard."""


def refuse_if_kept(table: Table) -> None:
    """Refuse a table whose files are not to be deleted.

    Raises:
        ConfigError: Its property `gc.enabled` is false.

    """
    if table.properties.get("gc.enabled", "true").lower() == "false":
        message = (
            f"table={'.'.join(table.name())} has gc.enabled=false: its files may belong to others "
            f"too and are not deleted; set the table property to true if they do not"
        )
        raise ConfigError(message)


def folders_of(table: Table) -> tuple[str, ...]:
    """Return where the table's files lie: its location, and data and metadata if elsewhere."""
    provider = table.location_provider()
    location = table.location().rstrip("/")
    others = (provider.data_path, provider.metadata_path)
    return (location, *(path for path in others if not is_inside(path, (location,))))


def outside(table: Table, paths: Collection[str]) -> list[str]:
    """Return those of the paths that are in none of the table's folders."""
    folders = folders_of(table)
    return [path for path in paths if not is_inside(path, folders)]


def delete_files(
    table: Table,
    paths: Collection[str],
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Delete files that nothing needs.

    Args:
        table: Whose store is used, and whose folders bound what may be deleted.
        paths: All inside the table's folders.
        on_progress: Told now and then how many have been dealt with.

    Returns:
        How many were there.

    Raises:
        UnavailableError: The store failed; some may be deleted, do it again.

    """
    assert not outside(table, paths), "paths outside the table are the caller's to sort out"
    waiting = iter(paths)
    deleted_count = done_count = 0
    with ThreadPoolExecutor(DELETER_COUNT) as pool:
        while step := list(islice(waiting, STEP_COUNT)):
            with translated(f"delete files of table {'.'.join(table.name())}"):
                deleted_count += sum(pool.map(partial(_delete, table), step))
            done_count += len(step)
            on_progress(done_count)
    return deleted_count


def _delete(table: Table, path: str) -> bool:
    try:
        table.io.delete(path)
    except FileNotFoundError:
        return False
    return True
