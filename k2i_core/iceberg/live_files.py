"""The data files of a snapshot, as plain values: what a plan of maintenance is made from."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.manifest import FileFormat, ManifestEntry
from pyiceberg.table import Table

from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.manifests import NewSnapshot, read_live_entries
from k2i_core.iceberg.replace import check_no_deletes
from k2i_core.write_target import IcebergPartition


@dataclass(frozen=True, slots=True)
class LiveFile:
    """One data file.

    Attributes:
        path: As the manifest names it.
        spec_id: The partition spec that it was written for.
        iceberg_partition: One value per field of that spec.
        snapshot_id: What added it.
        sequence_number: The data sequence number: how old its rows are.
        sort_order_id: The order that its rows have; None or 0 for none.
        is_parquet: Other formats are left alone.
    """

    path: str
    spec_id: int
    iceberg_partition: IcebergPartition
    byte_count: int
    row_count: int
    snapshot_id: int
    sequence_number: int
    sort_order_id: int | None = None
    is_parquet: bool = True


def read_live_files(table: Table, snapshot_id: int | None) -> Iterator[LiveFile]:
    """Yield the data files of a snapshot of a loaded table.

    Raises:
        ConfigError: It has delete files.
        UnavailableError: A manifest could not be read.

    """
    with translated(f"read manifests of table {'.'.join(table.name())}"):
        manifests = NewSnapshot(table, 0, snapshot_id).parent_manifests()
        check_no_deletes(manifests)
        for entry in read_live_entries(table.io, manifests):
            yield _live_file(entry)


def _live_file(entry: ManifestEntry) -> LiveFile:
    data_file = entry.data_file
    partition = data_file.partition
    return LiveFile(
        path=data_file.file_path,
        spec_id=data_file.spec_id,
        iceberg_partition=tuple(partition[n] for n in range(len(partition))),
        byte_count=data_file.file_size_in_bytes,
        row_count=data_file.record_count,
        snapshot_id=entry.snapshot_id or 0,
        sequence_number=entry.sequence_number or 0,
        sort_order_id=data_file.sort_order_id,
        is_parquet=data_file.file_format is FileFormat.PARQUET,
    )
