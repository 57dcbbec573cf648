"""The invariants of the project as predicates, written once and used by every layer of tests.

Each returns what is wrong as sentences, none when it holds, so that a test can say
`assert not …` and a simulation can stop at the first one.

| id | statement |
|---|---|
| I1 | every offset below the checkpoint is accounted for exactly once, none above it is a row |
| I2 | a table's checkpoint never moves back, except by rewind and rebuild |
| I3 | group offset ≤ checkpoint ≤ high watermark |
| I4 | a union read shows each row below its frontier exactly once, and none above it |
| I7 | every file that a retained snapshot needs exists |
"""

from collections.abc import Collection, Mapping

from k2i_core.offsets import TopicPartition

NONE: Mapping[int, int] = {}


def i1_broken(
    checkpoint: Mapping[TopicPartition, int],
    rows: Mapping[TopicPartition, Mapping[int, int]],
    dead_letters: Mapping[TopicPartition, Mapping[int, int]],
    *,
    first_offsets: Mapping[TopicPartition, int] | None = None,
    without_row: Mapping[TopicPartition, Collection[int]] | None = None,
) -> list[str]:
    """Check that what was read is in exactly one place.

    Args:
        checkpoint: Next offset per Kafka partition.
        rows: Per Kafka partition, how often each offset is in the table.
        dead_letters: Likewise in the dead-letter table.
        first_offsets: Where each Kafka partition's rows begin; 0 when not named.
        without_row: Offsets that are filtered, tombstones, without a record, or lost and accepted.

    """
    wrong: list[str] = []
    for topic_partition in sorted({*checkpoint, *rows, *dead_letters}):
        next_offset = checkpoint.get(topic_partition, 0)
        in_table = rows.get(topic_partition, NONE)
        dead = dead_letters.get(topic_partition, NONE)
        excused = (without_row or {}).get(topic_partition, ())
        for offset in range((first_offsets or {}).get(topic_partition, 0), next_offset):
            count = in_table.get(offset, 0) + dead.get(offset, 0)
            if count != (0 if offset in excused else 1):
                wrong.append(
                    f"I1 {topic_partition} offset={offset}: {in_table.get(offset, 0)} rows, "
                    f"{dead.get(offset, 0)} dead letters below checkpoint {next_offset}"
                )
        for offset, count in in_table.items():
            if offset >= next_offset and count:
                wrong.append(
                    f"I1 {topic_partition} offset={offset}: {count} rows above "
                    f"checkpoint {next_offset}"
                )
        for offset, count in dead.items():
            if offset >= next_offset and count > 1:
                wrong.append(
                    f"I1 {topic_partition} offset={offset}: {count} dead letters above "
                    f"checkpoint {next_offset}"
                )
    return wrong


def i2_broken(
    before: Mapping[TopicPartition, int], after: Mapping[TopicPartition, int]
) -> list[str]:
    """Check that no Kafka partition's next offset went back."""
    return [
        f"I2 {tp}: checkpoint moved back from {next_offset} to {after.get(tp)}"
        for tp, next_offset in sorted(before.items())
        if after.get(tp, -1) < next_offset
    ]


def i3_broken(
    group: Mapping[TopicPartition, int],
    checkpoint: Mapping[TopicPartition, int],
    high: Mapping[TopicPartition, int],
) -> list[str]:
    """Check that the mirror is not ahead of the table, nor the table of the topic."""
    wrong = [
        f"I3 {tp}: group offset {group_offset} is above the checkpoint {checkpoint.get(tp)}"
        for tp, group_offset in sorted(group.items())
        if group_offset > checkpoint.get(tp, group_offset)
    ]
    wrong += [
        f"I3 {tp}: checkpoint {next_offset} is above the high watermark {high[tp]}"
        for tp, next_offset in sorted(checkpoint.items())
        if tp in high and next_offset > high[tp]
    ]
    return wrong


def i4_broken(
    frontier: Mapping[TopicPartition, int],
    shown: Mapping[TopicPartition, Mapping[int, int]],
    *,
    always: Mapping[TopicPartition, Collection[int]],
    never: Mapping[TopicPartition, Collection[int]],
) -> list[str]:
    """Check one union read.

    Args:
        frontier: As it reports.
        shown: Per Kafka partition, how often each offset is in it.
        always: Offsets that are rows whatever decodes them.
        never: Offsets that are none.

    """
    wrong: list[str] = []
    for tp in sorted({*frontier, *shown}):
        rows = shown.get(tp, NONE)
        end = frontier.get(tp, 0)
        for offset in range(max([end, *(o + 1 for o in rows)])):
            count = rows.get(offset, 0)
            least = offset < end and offset in always.get(tp, ())
            most = offset < end and offset not in never.get(tp, ())
            if not least <= count <= most:
                wrong.append(f"I4 {tp} offset={offset}: shown {count} times, frontier {end}")
    return wrong


def i7_broken(table: str, needed: Collection[str], existing: Collection[str]) -> list[str]:
    """Check that every needed file exists."""
    gone = sorted(set(needed) - set(existing))
    return [f"I7 table={table} needs deleted files {gone}"] if gone else []
