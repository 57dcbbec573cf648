"""A load of a table that can be queried again and again, however fast others commit.

Each query opens the metadata file anew, and a worker that commits every second deletes a metadata
file within seconds. Manifests and data files stay for as long as snapshots are retained. The copy
knows the head alone, because queries ask for nothing else and hundreds of snapshots take longer to
write and to parse than a small query takes.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH


@contextmanager
def kept_metadata(table: Table) -> Generator[Table]:
    """Yield the same load with a copy of its metadata file, which is gone afterwards.

    Args:
        table: With a head.

    """
    with TemporaryDirectory(prefix="k2i-") as directory:
        path = Path(directory) / "kept.metadata.json"
        path.write_text(_with_head_alone(table.metadata).model_dump_json(), "utf-8")
        yield Table(table.name(), table.metadata, str(path), table.io, table.catalog)


def _with_head_alone(metadata: TableMetadata) -> TableMetadata:
    kept = [s for s in metadata.snapshots if s.snapshot_id == metadata.current_snapshot_id]
    refs = {name: ref for name, ref in metadata.refs.items() if name == MAIN_BRANCH}
    return metadata.model_copy(
        update={"snapshots": kept, "refs": refs, "snapshot_log": [], "metadata_log": []}
    )
