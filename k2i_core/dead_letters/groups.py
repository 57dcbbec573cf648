"""Dead letters grouped by reason, with what became of them since."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap64

from k2i_core.dead_letters.reading import places_of, read_letters
from k2i_core.dead_letters.states import (
    LetterState,
    LetterStates,
    LoadedTables,
    ShowProgress,
    unseen,
)
from k2i_core.offsets import TopicPartition

_COLUMNS = (
    "target_table",
    "stage",
    "error_class",
    "fingerprint",
    "message",
    "first_seen",
    "_kafka",
)


@dataclass(slots=True)
class LetterGroup:
    """Dead letters that failed for the same reason.

    Attributes:
        message: Of the example.
        counts: How many are in each state.
        first_seen_ms: Of the oldest, in milliseconds since 1970 UTC.
        last_seen_ms: Of the youngest.
        example: Where one of them stands in Kafka; an open one if there is any.
    """

    fingerprint: str
    stage: str
    error_class: str
    message: str
    example: tuple[TopicPartition, int]
    first_seen_ms: int
    last_seen_ms: int
    counts: dict[LetterState, int] = field(default_factory=lambda: dict.fromkeys(LetterState, 0))

    @property
    def total_count(self) -> int:
        """All of them, whatever became of them."""
        return sum(self.counts.values())

    @property
    def listed_count(self) -> int:
        """Those that somebody still has to decide about."""
        return self.counts[LetterState.OPEN] + self.counts[LetterState.PENDING]


def grouped(
    loaded: LoadedTables, states: LetterStates, show: ShowProgress = unseen
) -> list[LetterGroup]:
    """Return the groups, the largest undecided one first; `show` is told how far it has come.

    Raises:
        UnavailableError: The store did not answer.

    """
    groups: dict[str, LetterGroup] = {}
    total_count = sum(states.count(state) for state in LetterState)
    done_count = 0
    for rows in read_letters(loaded.dead_letters, _COLUMNS):
        done_count += rows.num_rows
        show("dead letters", min(done_count, total_count), total_count)
        for found in _groups_of(rows, loaded.target_name, states):
            _merge(groups, found)
    return sorted(groups.values(), key=lambda g: (-g.listed_count, -g.total_count, g.fingerprint))


def _groups_of(
    rows: pa.RecordBatch, target_name: str, states: LetterStates
) -> Iterator[LetterGroup]:
    """Yield one group for each fingerprint and state among the rows of one batch."""
    mask = pc.equal(rows.column("target_table"), pa.scalar(target_name)).to_numpy(
        zero_copy_only=False
    )
    codes = np.full(rows.num_rows, -1, dtype=np.int8)
    for topic_partition, index, offsets in places_of(rows, mask):
        for code, state in enumerate(LetterState):
            members = states.of(state).get(topic_partition)
            if members is not None:
                found = BitMap64(offsets.astype(np.uint64)) & members
                is_member = np.isin(offsets, np.array(found.to_array(), np.int64))
                codes[index[is_member]] = code
    kafka = rows.column("_kafka")
    table = pa.table(
        {
            **{name: rows.column(name) for name in _COLUMNS[1:5]},
            "seen": rows.column("first_seen").cast(pa.int64()),
            "code": pa.array(codes),
            **{name: pc.struct_field(kafka, name) for name in ("topic", "partition", "offset")},
        }
    ).filter(pa.array(codes >= 0))
    aggregated = table.group_by(["fingerprint", "code"], use_threads=False).aggregate(
        [
            ("seen", "min"),
            ("seen", "max"),
            ("seen", "count"),
            *((n, "first") for n in ("stage", "error_class", "message")),
            *((n, "first") for n in ("topic", "partition", "offset")),
        ]
    )
    state_list = list(LetterState)
    for row in aggregated.to_pylist():
        group = LetterGroup(
            row["fingerprint"],
            row["stage_first"],
            row["error_class_first"],
            row["message_first"],
            (TopicPartition(row["topic_first"], row["partition_first"]), row["offset_first"]),
            row["seen_min"] // 1000,
            row["seen_max"] // 1000,
        )
        group.counts[state_list[row["code"]]] = row["seen_count"]
        yield group


def _merge(groups: dict[str, LetterGroup], found: LetterGroup) -> None:
    known = groups.setdefault(found.fingerprint, found)
    if known is found:
        return
    if found.counts[LetterState.OPEN] and not known.counts[LetterState.OPEN]:
        known.example, known.message = found.example, found.message
    for state, count in found.counts.items():
        known.counts[state] += count
    known.first_seen_ms = min(known.first_seen_ms, found.first_seen_ms)
    known.last_seen_ms = max(known.last_seen_ms, found.last_seen_ms)


def fingerprints_of(groups: Iterable[LetterGroup]) -> tuple[str, ...]:
    """Return the fingerprints of groups that have dead letters to decide about."""
    return tuple(group.fingerprint for group in groups if group.listed_count)
