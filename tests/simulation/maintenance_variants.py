"""Maintenance with one rule taken out of the real code; see `variants`.

That a sweep needs its barrier shows only if a worker dies with a request on its way and no other
comes before the sweep: too seldom for a seed. It is shown on a real table instead.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from k2i_core.iceberg.commit import TableCommitter
from tests.fakes.memory_table import MemoryTable, Request, Version

Patch = AbstractContextManager[Any]


def expire_unasserted() -> Iterable[Patch]:
    """The catalog is not asked whether the head is still the one that was loaded."""
    check_base = MemoryTable._check_base

    def check_others(self: MemoryTable, request: Request, before: Version) -> None:
        if not request.expired:
            check_base(self, request, before)

    yield patch.object(MemoryTable, "_check_base", check_others)


def expire_what_is_named() -> Iterable[Patch]:
    """All that old snapshots hold is deleted, whoever else holds it."""
    yield patch.object(TableCommitter, "reachable", lambda _self, _state, _paths: set[str]())
