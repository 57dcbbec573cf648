"""Maintenance with one rule taken out of the real code; see `variants`."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.decisions import decide_carry
from k2i_core.iceberg.gateway import TableView
from k2i_core.maintenance import orphans
from k2i_core.records import TableState
from tests.fakes.memory_table import MemoryTable, Request, Version

Patch = AbstractContextManager[Any]


def expire_unasserted() -> Iterable[Patch]:
    """The catalog is not asked whether the head is still the one that was loaded."""
    check_base = MemoryTable._check_base

    def check_others(self: MemoryTable, request: Request, before: Version) -> None:
        if not request.expired:
            check_base(self, request, before)

    yield patch.object(MemoryTable, "_check_base", check_others)


def sweep_without_barrier() -> Iterable[Patch]:
    """What no load reaches is taken for garbage, also what is still on its way."""

    def load_only(committer: TableCommitter) -> tuple[TableState, int]:
        state = committer.inspect()
        decide_carry(state.entry)
        assert isinstance(state.view, TableView)
        assert state.view.head_snapshot_id is not None
        return state, state.view.head_snapshot_id

    yield patch.object(orphans, "raise_barrier", load_only)


def expire_what_is_named() -> Iterable[Patch]:
    """All that old snapshots hold is deleted, whoever else holds it."""
    yield patch.object(TableCommitter, "reachable", lambda _self, _state, _paths: set[str]())
