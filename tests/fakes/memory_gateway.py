"""The `TableGateway` over a table in memory."""

from collections.abc import Callable, Collection

from k2i_core.errors import ConflictError, ErrorKind
from k2i_core.iceberg.gateway import SnapshotChange, SnapshotView, TableView
from tests.fakes.memory_table import MemoryTable, Request, Version


def no_pause(_: str) -> None:
    """Go on at once: what fakes do outside the simulation."""


class MemoryGateway:
    """One table; `delete` removes files from the store that the table's files live in."""

    def __init__(
        self,
        table: MemoryTable,
        delete: Callable[[Collection[str]], None] = lambda _: None,
        pause: Callable[[str], None] = no_pause,
    ) -> None:
        self._table = table
        self._delete = delete
        self._pause = pause

    @property
    def identifier(self) -> str:
        return self._table.identifier

    def load(self) -> TableView:
        self._pause("load")
        return self._table.current.view

    def prepare(self, view: TableView, change: SnapshotChange) -> Request:
        self._pause("prepare")
        base = version_of(view)
        parent = base.head
        if change.rewind_to_snapshot_id is not None:
            parent = change.rewind_to_snapshot_id
        removed = frozenset(path for r in change.replacements for path in r.removed_paths)
        if not removed <= base.live.keys():
            message = "a file to replace is not live"
            raise ConflictError(message, kind=ErrorKind.INPUTS_GONE)
        snapshot = SnapshotView(
            change.snapshot_id,
            parent,
            view.last_sequence_number + 1,
            change.timestamp_ms,
            {**change.summary, "operation": "replace" if change.is_replace else "append"},
        )
        replacing = (file for r in change.replacements for file in r.files)
        paths = tuple(file.path for file in (*change.files, *replacing))
        return Request(
            base,
            snapshot,
            parent,
            paths,
            removed,
            properties=dict(change.properties),
            expired=frozenset(change.removed_snapshot_ids),
        )

    def send(self, request: object) -> None:
        self._pause("send")
        assert isinstance(request, Request)
        self._table.apply(request)

    def has_live_entry(self, view: TableView, snapshot_id: int) -> bool:
        return snapshot_id in version_of(view).live.values()

    def missing(self, view: TableView, paths: Collection[str]) -> set[str]:
        self._pause("missing")
        return set(paths) - version_of(view).live.keys()

    def reachable(self, view: TableView, paths: Collection[str]) -> set[str]:
        self._pause("reachable")
        return set(paths) & version_of(view).reachable

    def delete_files(self, paths: Collection[str]) -> None:
        self._pause("delete_files")
        self._delete(paths)


def version_of(view: TableView) -> Version:
    """Return what the view was loaded from."""
    assert isinstance(view.handle, Version)
    return view.handle
