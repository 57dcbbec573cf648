"""What is hot of a pipeline's table at this moment, on this host: for reports."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.query.union_read import UnionTable
from k2i_core.records import KAFKA_COLUMN
from k2i_core.wiring.settings import catalog_opener


@dataclass(frozen=True, slots=True)
class HotState:
    """Rows that can be read and are not in the table.

    Attributes:
        row_count: Of all workers on this host.
        oldest_seconds: Since the oldest of their records was produced; 0 without rows, None when
            no record says.
    """

    row_count: int
    oldest_seconds: float | None


def hot_state(pipeline: Pipeline, clock: Clock) -> HotState | None:
    """Look at the hot rows of now; None where they are switched off.

    Raises:
        ConfigError: The table does not exist.
        UnavailableError: The catalog did not answer.

    """
    if not pipeline.hot.enabled:
        return None
    gateway = PyIcebergGateway(catalog_opener(pipeline), pipeline.table.identifier)
    hot = UnionTable(gateway, pipeline.hot_directories, clock).view().hot
    if not hot:
        return HotState(0, 0.0)
    produced = [
        pc.struct_field(batch.column(KAFKA_COLUMN), "timestamp").cast(pa.int64()) for batch in hot
    ]
    known = [times for times in produced if times.null_count < len(times)]
    row_count = sum(batch.num_rows for batch in hot)
    if not known:
        return HotState(row_count, None)
    oldest_ms = min(pc.min(times).as_py() for times in known) / 1000
    return HotState(row_count, max(0.0, (clock.now_ms() - oldest_ms) / 1000))
