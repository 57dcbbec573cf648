"""Wrappers that make a fake fail as the real thing does; what fails how is the caller's choice.

The worst of them is the lost answer: it was done, and the caller was told that it failed.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from enum import Enum, auto

from k2i_core.errors import (
    CommitStateUnknownError,
    ConflictError,
    ErrorKind,
    UnavailableError,
)
from k2i_core.iceberg.gateway import SnapshotChange, TableGateway, TableView
from tests.fakes.memory_table import MemoryTable, Request


class Reply(Enum):
    """What becomes of one request, and what the caller is told."""

    TRUE = auto()
    LOST = auto()
    REPLAYED_CONFLICT = auto()
    LATE = auto()
    DROPPED = auto()


class FaultyGateway:
    """A gateway whose answers may be old, lost or wrong."""

    def __init__(
        self,
        inner: TableGateway,
        table: MemoryTable,
        *,
        choose_reply: Callable[[Request], Reply] = lambda _: Reply.TRUE,
        versions_behind: Callable[[], int] = lambda: 0,
        is_down: Callable[[str], bool] = lambda _: False,
        late: Callable[[MemoryTable, Request], None] = lambda _table, _request: None,
    ) -> None:
        """Wrap `inner`.

        Args:
            inner: The gateway.
            table: Its table.
            choose_reply: Asked for every request.
            versions_behind: Asked for every load: 0 for the current version.
            is_down: Asked for every load and prepare; true raises UnavailableError.
            late: Given requests that stay on their way.

        """
        self._inner = inner
        self._table = table
        self._choose_reply = choose_reply
        self._versions_behind = versions_behind
        self._is_down = is_down
        self._late = late

    @property
    def identifier(self) -> str:
        return self._inner.identifier

    def load(self) -> TableView:
        self._check_up("load")
        view = self._inner.load()
        behind = self._versions_behind()
        if not behind:
            return view
        return self._table.versions[-min(behind + 1, len(self._table.versions))].view

    def prepare(self, view: TableView, change: SnapshotChange) -> object:
        self._check_up("prepare")
        return self._inner.prepare(view, change)

    def send(self, request: object) -> None:
        assert isinstance(request, Request)
        reply = self._choose_reply(request)
        if reply is Reply.TRUE:
            self._inner.send(request)
            return
        if reply in (Reply.LOST, Reply.REPLAYED_CONFLICT):
            with suppress(ConflictError):  # Refused or not, the caller hears the same.
                self._inner.send(request)
            if reply is Reply.REPLAYED_CONFLICT:
                message = "the head has moved"
                raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
        if reply is Reply.LATE:
            self._late(self._table, request)
        message = "the connection broke"
        raise CommitStateUnknownError(message)

    def has_live_entry(self, view: TableView, snapshot_id: int) -> bool:
        return self._inner.has_live_entry(view, snapshot_id)

    def missing(self, view: TableView, paths: Collection[str]) -> set[str]:
        return self._inner.missing(view, paths)

    def reachable(self, view: TableView, paths: Collection[str]) -> set[str]:
        return self._inner.reachable(view, paths)

    def delete_files(self, paths: Collection[str]) -> None:
        self._inner.delete_files(paths)

    def _check_up(self, call: str) -> None:
        if self._is_down(call):
            message = "the catalog did not answer"
            raise UnavailableError(message)
