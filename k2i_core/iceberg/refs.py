"""Branches and tags that must stand still while snapshots are given up.

A tag may be made at any moment, also on a snapshot that is just being removed, and a catalog that
removes a snapshot removes what points at it. Iceberg's requirements can only name refs that are
known, so a new one slips through:

- catalogs that PyIceberg itself commits to (SQL, Glue, Hive) check requirements in this process,
  against the metadata that the compare-and-set starts from; there all refs are compared at once
- a REST server checks the known ones; whether a new one was lost is seen afterwards in the metadata
  that the server built upon (`lost_refs`), before any file is deleted
"""

from collections.abc import Collection, Mapping
from typing import cast

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    TableRequirement,
    ValidatableTableRequirement,
)


class AssertRefs(ValidatableTableRequirement):
    """All branches and tags point where they did at the load, and there is no other one."""

    type: str = "assert-refs"
    snapshot_ids: dict[str, int]

    def validate(self, base_metadata: TableMetadata | None) -> None:
        """Compare.

        Raises:
            CommitFailedException: A branch or tag was made, moved or removed since.

        """
        now = {} if base_metadata is None else _snapshot_ids(base_metadata)
        if now != self.snapshot_ids:
            changed = sorted(dict(now.items() ^ self.snapshot_ids.items()))
            message = f"Requirement failed: refs have changed: {', '.join(changed)}"
            raise CommitFailedException(message)


def assert_refs(catalog: Catalog, metadata: TableMetadata) -> tuple[TableRequirement, ...]:
    """Return the requirements that keep branches and tags as loaded."""
    snapshot_ids = _snapshot_ids(metadata)
    if isinstance(catalog, MetastoreCatalog):
        # Safe because these catalogs call `validate` and never send a requirement anywhere.
        return (cast("TableRequirement", AssertRefs(snapshot_ids=snapshot_ids)),)
    return tuple(
        AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": snapshot_id})
        for name, snapshot_id in snapshot_ids.items()
        if name != MAIN_BRANCH  # asserted by every commit
    )


def lost_refs(
    before: Table, after: Table, removed_snapshot_ids: Collection[int]
) -> Mapping[str, int] | None:
    """Find branches and tags that were made on a snapshot while it was being removed.

    Args:
        before: The load that the removal was decided on.
        after: A later load, without the removed snapshots.
        removed_snapshot_ids: At least one.

    Returns:
        Name → snapshot id of each; None when the metadata between is no longer known.

    """
    removed = set(removed_snapshot_ids)
    locations = [entry.metadata_file for entry in after.metadata.metadata_log]
    locations.append(after.metadata_location)
    if before.metadata_location not in locations:
        return None
    base = before.metadata
    for location in locations[locations.index(before.metadata_location) + 1 :]:
        if location == after.metadata_location:
            metadata = after.metadata
        else:
            metadata = FromInputFile.table_metadata(after.io.new_input(location))
        if not removed <= {snapshot.snapshot_id for snapshot in metadata.snapshots}:
            break
        base = metadata
    return {name: i for name, i in _snapshot_ids(base).items() if i in removed}


def _snapshot_ids(metadata: TableMetadata) -> dict[str, int]:
    return {name: ref.snapshot_id for name, ref in metadata.refs.items()}
