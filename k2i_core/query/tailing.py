"""New rows as they become visible, each once: what lies between two frontiers."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, EqualTo, GreaterThanOrEqual, Or

from k2i_core.offsets import TopicPartition
from k2i_core.query.reading import PipelineTable
from k2i_core.query.union_read import UnionView
from k2i_core.records import KAFKA_COLUMN

_TOPIC, _PARTITION, _OFFSET = (f"{KAFKA_COLUMN}.{n}" for n in ("topic", "partition", "offset"))


class Tail:
    """Follows one table from where its frontier is at the first look."""

    def __init__(self, table: PipelineTable, columns: Sequence[str] | None = None) -> None:
        """Bind the table; nothing is read yet.

        Args:
            table: To follow.
            columns: Top-level columns; None for all.

        """
        self._table = table
        self._columns = columns
        self._shown: dict[TopicPartition, int] | None = None

    def look(self) -> pa.Table:
        """Return the rows that came since the last look; none at the first.

        A frontier that moved back, as after a crash, shows nothing a second time.

        Raises:
            ConfigError: The table does not exist yet, or a column is not there.
            UnavailableError: Catalog or store did not answer.

        """
        view = self._table.view()
        if self._shown is None:
            self._shown = dict(view.frontier)
        moved = {
            tp: self._shown.get(tp, 0)
            for tp, next_offset in view.frontier.items()
            if next_offset > self._shown.get(tp, 0)
        }
        if not moved:
            return view.columns(self._columns).empty_table()
        where = _at_or_above(moved)
        # The table is read only for what was committed before anybody saw it hot.
        is_hot = all(_committed(view, tp) <= offset for tp, offset in moved.items())
        rows = (
            view.hot_table(self._columns, where)
            if is_hot
            else view.scan(self._columns, where).read_all()
        )
        self._shown |= {tp: view.frontier[tp] for tp in moved}
        return rows


def _committed(view: UnionView, topic_partition: TopicPartition) -> int:
    entry = view.cold.entry
    return 0 if entry is None else entry.checkpoint.next_offsets.get(topic_partition, 0)


def _at_or_above(offsets: Mapping[TopicPartition, int]) -> BooleanExpression:
    parts = [
        And(
            _compared(EqualTo, _TOPIC, tp.topic),
            _compared(EqualTo, _PARTITION, tp.kafka_partition),
            _compared(GreaterThanOrEqual, _OFFSET, offset),
        )
        for tp, offset in offsets.items()
    ]
    return Or(*parts) if len(parts) > 1 else parts[0]


def _compared(
    kind: type[EqualTo] | type[GreaterThanOrEqual], column: str, value: str | int
) -> BooleanExpression:
    return kind(column, value)  # pyright: ignore[reportCallIssue] - a pydantic model's own __init__
