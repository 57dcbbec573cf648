"""A load of a table that can be queried again and again, however fast others commit.

Each query opens the metadata file anew, and a worker that commits every second deletes a metadata
file within seconds. Manifests and data files stay for as long as snapshots are retained.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pyiceberg.table import Table


@contextmanager
def kept_metadata(table: Table) -> Generator[Table]:
    """Yield the same load with a copy of its metadata file, which is gone afterwards."""
    with TemporaryDirectory(prefix="k2i-") as directory:
        path = Path(directory) / "kept.metadata.json"
        path.write_text(table.metadata.model_dump_json(), "utf-8")
        yield Table(table.name(), table.metadata, str(path), table.io, table.catalog)
