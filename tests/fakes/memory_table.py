"""An Iceberg table as its catalog sees it: versions of metadata, and one compare-and-set.

Real where the protocol can feel it: snapshots with parents, sequence numbers and the guard of
version 2 against using one again, file sets per snapshot that remember which snapshot added a
file, properties in the same request, refs moved back, snapshots expired. The rest is left out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import NoReturn

from k2i_core.errors import ConflictError, ErrorKind
from k2i_core.iceberg.gateway import SnapshotView, TableView
from k2i_core.ledger import CHECKPOINT_KEY
from k2i_core.pauses import ACCEPTED_KEY, PAUSED_KEY

NO_FILES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Version:
    """One metadata file.

    Attributes:
        files: Snapshot id → path → the snapshot that added that live file.
    """

    uuid: str
    number: int = 0
    head: int | None = None
    snapshots: Mapping[int, SnapshotView] = field(default_factory=dict)
    files: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    last_sequence_number: int = 0
    last_updated_ms: int = 0
    format_version: int = 2
    schema_id: int = 0
    spec_id: int = 0
    field_ids: Mapping[int, frozenset[int]] = field(
        default_factory=lambda: {0: frozenset(range(1, 9))}
    )

    @cached_property
    def view(self) -> TableView:
        return TableView(
            table_uuid=self.uuid,
            format_version=self.format_version,
            head_snapshot_id=self.head,
            snapshots=self.snapshots,
            checkpoint_property=self.properties.get(CHECKPOINT_KEY),
            last_sequence_number=self.last_sequence_number,
            last_updated_ms=self.last_updated_ms,
            schema_id=self.schema_id,
            spec_id=self.spec_id,
            metadata_location=f"metadata/{self.number:05}.json",
            field_ids=self.field_ids,
            named_snapshot_ids=frozenset(),
            handle=self,
            properties={
                key: text
                for key in (PAUSED_KEY, ACCEPTED_KEY)
                if (text := self.properties.get(key))
            },
        )

    @cached_property
    def reachable(self) -> frozenset[str]:
        """Every file that a retained snapshot needs."""
        return frozenset(path for files in self.files.values() for path in files)

    @property
    def live(self) -> Mapping[str, int]:
        """The files of the head."""
        return NO_FILES if self.head is None else self.files[self.head]


@dataclass(frozen=True)
class Request:
    """What a client asks for, with what it was built on.

    Attributes:
        base: Asserted whole: uuid, head, schema and spec.
        snapshot: To add, on `parent`; None changes refs or retention only.
        parent: Becomes the head first, when it is not.
        expired: Snapshots to forget.
    """

    base: Version
    snapshot: SnapshotView | None = None
    parent: int | None = None
    added: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()
    properties: Mapping[str, str] = field(default_factory=dict)
    expired: frozenset[int] = frozenset()
    head: int | None = None

    def __str__(self) -> str:
        if self.snapshot is not None:
            operation = self.snapshot.summary.get("k2i.operation", "foreign")
            return f"{operation} snapshot={self.snapshot.snapshot_id} on {self.parent}"
        return f"expire {sorted(self.expired)}" if self.expired else f"rollback to {self.head}"


Landed = Callable[[Request, Version, Version], None]


class MemoryTable:
    """One table in a catalog; every version is kept, so that a stale load can be had."""

    def __init__(self, identifier: str, *, sequence_guard: bool = True) -> None:
        self.identifier = identifier
        self.sequence_guard = sequence_guard
        self.versions = [Version(uuid=f"uuid-{identifier}")]
        self.landed: Landed = lambda _request, _before, _after: None

    @property
    def current(self) -> Version:
        return self.versions[-1]

    def change(self, **changes: object) -> None:
        """Change what the protocol does not write itself: format, schema, spec, properties."""
        self.versions.append(replace(self.current, number=self.current.number + 1, **changes))

    def apply(self, request: Request) -> None:
        """Land the request atomically, or refuse it with a ConflictError."""
        before = self.current
        self._check_base(request, before)
        snapshots = {i: s for i, s in before.snapshots.items() if i not in request.expired}
        files = {i: f for i, f in before.files.items() if i in snapshots}
        head = before.head if request.head is None else request.head
        after = replace(before, number=before.number + 1, snapshots=snapshots, files=files)
        if request.snapshot is not None:
            after = self._added(request, request.snapshot, after)
        else:
            if head is not None and head not in snapshots:
                _refuse(f"snapshot_id={head} of branch main is gone")
            after = replace(
                after, head=head, properties={**before.properties, **request.properties}
            )
        self.versions.append(after)
        self.landed(request, before, after)

    def _check_base(self, request: Request, before: Version) -> None:
        for name in ("uuid", "head", "schema_id", "spec_id"):
            if getattr(request.base, name) != getattr(before, name):
                _refuse(f"{name} is {getattr(before, name)}")

    def _added(self, request: Request, snapshot: SnapshotView, after: Version) -> Version:
        if self.sequence_guard and snapshot.sequence_number <= after.last_sequence_number:
            _refuse("sequence number is older than the last one")
        if request.parent is not None and request.parent not in after.snapshots:
            _refuse(f"snapshot_id={request.parent} is gone")
        parent_files = NO_FILES if request.parent is None else after.files[request.parent]
        if not request.removed <= parent_files.keys():
            _refuse("a file to replace is not there")
        live = {p: i for p, i in parent_files.items() if p not in request.removed}
        live.update(dict.fromkeys(request.added, snapshot.snapshot_id))
        return replace(
            after,
            head=snapshot.snapshot_id,
            snapshots={**after.snapshots, snapshot.snapshot_id: snapshot},
            files={**after.files, snapshot.snapshot_id: live},
            properties={**after.properties, **request.properties},
            last_sequence_number=max(after.last_sequence_number, snapshot.sequence_number),
            last_updated_ms=max(after.last_updated_ms, snapshot.timestamp_ms),
        )


def _refuse(reason: str) -> NoReturn:
    message = f"requirement failed: {reason}"
    raise ConflictError(message, kind=ErrorKind.CHECKPOINT_STALE)
