"""PyIceberg's SQL catalog without the work that grows with a table's history.

PyIceberg parses the whole metadata file at every load, once more inside every commit, and copies
all of it before writing. With 500 snapshots that is four fifths of a commit. Metadata files never
change once written, so a file that this process has read or written is not parsed again, and the
new state shares the old one's parts, which nothing modifies.
"""

from collections import OrderedDict

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import StagedTable, Table
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    TableRequirement,
    TableUpdate,
    _apply_table_update,  # pyright: ignore[reportPrivateUsage]
    _TableMetadataUpdateContext,  # pyright: ignore[reportPrivateUsage]
    _update_table_metadata_log,  # pyright: ignore[reportPrivateUsage]
)
from pyiceberg.typedef import Identifier

REMEMBERED_COUNT = 8
"""Metadata remembered, of all tables together. Larger costs memory (some MB each for long
histories); smaller than the tables of a pipeline and nothing is found again."""


class FlatSqlCatalog(SqlCatalog):
    """The SQL catalog for one thread; its tables share metadata, which is never modified."""

    def __init__(self, name: str, **properties: str) -> None:
        self._remembered: OrderedDict[str, TableMetadata] = OrderedDict()
        super().__init__(name, **properties)

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        metadata = self._remembered.get(location) if location else None
        if metadata is None or location is None:
            table = super()._convert_orm_to_iceberg(orm_table)
            self._remember(table.metadata_location, table.metadata)
            return table
        self._remembered.move_to_end(location)
        namespace = Catalog.identifier_to_tuple(orm_table.table_namespace)
        return Table(
            identifier=(*namespace, orm_table.table_name),
            metadata=metadata,
            metadata_location=location,
            io=self._load_file_io(metadata.properties, location),
            catalog=self,
        )

    def _update_and_stage_table(
        self,
        current_table: Table | None,
        table_identifier: Identifier,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> StagedTable:
        adds_snapshot = any(isinstance(update, AddSnapshotUpdate) for update in updates)
        if current_table is None or not adds_snapshot:
            return super()._update_and_stage_table(
                current_table, table_identifier, requirements, updates
            )
        for requirement in requirements:
            requirement.validate(current_table.metadata)
        metadata = _updated(current_table, updates)
        version = self._parse_metadata_version(current_table.metadata_location) + 1
        provider = load_location_provider(metadata.location, metadata.properties)
        location = provider.new_table_metadata_file_location(version)
        # Safe even if the commit fails: then nothing ever points at this unique location.
        self._remember(location, metadata)
        return StagedTable(
            identifier=table_identifier,
            metadata=metadata,
            metadata_location=location,
            io=self._load_file_io(metadata.properties, location),
            catalog=self,
        )

    def _remember(self, location: str, metadata: TableMetadata) -> None:
        self._remembered[location] = metadata
        while len(self._remembered) > REMEMBERED_COUNT:
            self._remembered.popitem(last=False)


def _updated(table: Table, updates: tuple[TableUpdate, ...]) -> TableMetadata:
    """Apply updates as PyIceberg does, without its deep copy of the result.

    One of them adds a snapshot, whose timestamp becomes the table's last update.
    """
    base = table.metadata
    context = _TableMetadataUpdateContext()
    updated = base
    for update in updates:
        updated = _apply_table_update(update, updated, context)
    updated = _update_table_metadata_log(updated, table.metadata_location, base.last_updated_ms)
    updated.spec().check_compatible(updated.schema())
    updated.sort_order().check_compatible(updated.schema())
    return updated
