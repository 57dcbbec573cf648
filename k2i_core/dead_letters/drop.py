"""Drop: an operator gives dead letters up. One commit of marks to the dead-letter table.

The dead letters stay where they are and stay accounted for; they only leave the list, and no
replay takes them. A mark says where the record stood in Kafka and nothing of what was in it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

from k2i_core.dead_letters.reading import Selection, read_selected
from k2i_core.dead_letters.replay import LetterParts, LetterStep, load_tables, look_again
from k2i_core.dead_letters.states import LetterState, LoadedTables, read_states
from k2i_core.iceberg.replaying import DROP_OPERATION, decide_drop
from k2i_core.iceberg.write_targets import write_target
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import DEAD_LETTER_SCHEMA, KAFKA_COLUMN, KAFKA_TYPE, dropped_name

DROPPED_STAGE = "dropped"
DROPPED_MESSAGE = "given up by an operator"


@dataclass(frozen=True, slots=True)
class DropReport:
    """What a drop did, or would do.

    Attributes:
        dropped_count: Open dead letters that were meant.
        fingerprints: How many of each.
        snapshot_id: The commit; None when there was nothing to commit.
        is_dry_run: Whether nothing was changed.
    """

    dropped_count: int
    fingerprints: Mapping[str, int]
    snapshot_id: int | None
    is_dry_run: bool


def drop(parts: LetterParts, selection: Selection, *, dry_run: bool = False) -> DropReport:
    """Give the selected open dead letters up.

    Args:
        parts: What to work with.
        selection: Which of the open dead letters.
        dry_run: Count only; change nothing.

    Raises:
        CorruptionError: Table and ledger disagree; nothing was changed.
        UnavailableError: A service did not answer, or others came between too often; a second
            drop does not repeat what landed.

    """
    return look_again("drop", lambda: _drop_once(parts, selection, dry_run=dry_run))


def _drop_once(parts: LetterParts, selection: Selection, *, dry_run: bool) -> DropReport:
    loaded, _ = load_tables(parts)
    states = read_states(loaded, parts.show)
    parts.observe(LetterStep.STATES_READ)
    total_count = states.count(LetterState.OPEN)
    fingerprints: Counter[str] = Counter()
    now_ms = parts.clock.now_ms()
    target = write_target(loaded.dead_letters, f"drop-{parts.ids.token()}")
    writer = RollingWriter(target, parts.clock, lambda _path: None)
    try:
        for rows in read_selected(loaded, selection, states.open):
            fingerprints.update(cast("list[str]", rows.column("fingerprint").to_pylist()))
            if not dry_run:
                writer.write(marks_of(rows, loaded.target_name, now_ms))
                parts.observe(LetterStep.FILE_OPENED)
            parts.show("dead letters", fingerprints.total(), total_count)
        files = writer.close()
    except BaseException:
        writer.abandon()
        raise
    parts.observe(LetterStep.FILES_CLOSED)
    snapshot_id = None
    if files:
        head_snapshot_id = _head(loaded)
        report = parts.dead_letters.operate(
            DROP_OPERATION,
            lambda view, stored: decide_drop(view, stored, head_snapshot_id, files),
        )
        snapshot_id = report.snapshot_id
        parts.observe(LetterStep.COMMITTED)
    return DropReport(fingerprints.total(), dict(fingerprints), snapshot_id, dry_run)


def marks_of(rows: pa.RecordBatch, target_table: str, now_ms: int) -> pa.RecordBatch:
    """Return one mark for each dead letter (n rows × DEAD_LETTER_SCHEMA)."""
    count = rows.num_rows
    kafka = cast("pa.StructArray", rows.column(KAFKA_COLUMN))
    places = [
        kafka.field(name)
        if name in ("topic", "partition", "offset", "timestamp")
        else pa.nulls(count, KAFKA_TYPE.field(name).type)
        for name in (field.name for field in KAFKA_TYPE)
    ]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([dropped_name(target_table)] * count, pa.string()),
            pa.array([DROPPED_STAGE] * count, pa.string()),
            rows.column("error_class"),
            rows.column("fingerprint"),
            pa.array([DROPPED_MESSAGE] * count, pa.string()),
            pa.nulls(count, pa.int32()),
            pa.array([now_ms * 1000] * count, pa.int64()).cast(
                DEAD_LETTER_SCHEMA.field("first_seen").type
            ),
            pa.nulls(count, pa.binary()),
            pa.StructArray.from_arrays(places, fields=list(KAFKA_TYPE)),
        ],
        schema=DEAD_LETTER_SCHEMA,
    )


def _head(loaded: LoadedTables) -> int:
    snapshot = loaded.dead_letters.current_snapshot()
    assert snapshot is not None, "there were dead letters in it"
    return snapshot.snapshot_id
