"""What the light checks say: facts and thresholds in, a verdict out. Pure.

The same judgement is made beside every materialization and by the button in the Checks tab.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from k2i_core.offsets import OffsetRange, TopicPartition


class Grade(Enum):
    """How bad it is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check's answer.

    Attributes:
        says: One line for people.
        figures: What it was judged by; numeric ones are plotted.
    """

    grade: Grade
    says: str
    figures: Mapping[str, int | float | str] = field(default_factory=dict[str, int | float | str])


@dataclass(frozen=True, slots=True)
class Limits:
    """Above which a figure is a warning, and above which it is bad; None for never."""

    warn: float | None = None
    fail: float | None = None

    def grade(self, value: float) -> Grade:
        """Return how bad a figure is."""
        if self.fail is not None and value > self.fail:
            return Grade.BAD
        if self.warn is not None and value > self.warn:
            return Grade.WARNING
        return Grade.GOOD

    def described(self) -> str:
        """Return the limits for people."""
        parts = [
            f"{name} above {limit:,.10g}"
            for name, limit in (("warns", self.warn), ("fails", self.fail))
            if limit is not None
        ]
        return ", ".join(parts) or "no limit is set"


GAPS_LISTED_MAX = 5


def judge_contiguity(
    commits: Sequence[Iterable[OffsetRange]], next_offsets: Mapping[TopicPartition, int]
) -> Verdict:
    """Judge whether each commit starts where the one before it ended, up to the checkpoint.

    Args:
        commits: The ranges of successive commits, oldest first; the first may start anywhere.
        next_offsets: The checkpoint after the last of them.

    """
    faults: list[str] = []
    ends: dict[TopicPartition, int] = {}
    commit_count = 0
    for ranges in commits:
        commit_count += 1
        for offset_range in ranges:
            topic_partition = offset_range.topic_partition
            end = ends.get(topic_partition, offset_range.start_offset)
            if offset_range.start_offset != end:
                fault = "repeats offsets" if offset_range.start_offset < end else "leaves a gap"
                faults.append(f"{offset_range} {fault} after {end}")
            ends[topic_partition] = offset_range.next_offset
    faults += [
        f"{tp} ends at {end}, its checkpoint is {next_offsets.get(tp)}"
        for tp, end in sorted(ends.items())
        if next_offsets.get(tp) != end
    ]
    figures = {"commits": commit_count, "kafka_partitions": len(ends), "faults": len(faults)}
    if faults:
        listed = "; ".join(faults[:GAPS_LISTED_MAX])
        return Verdict(Grade.BAD, f"{listed}; prove the rows with `k2i verify`", figures)
    return Verdict(
        Grade.GOOD,
        f"commits without gap or overlap, up to the checkpoint: {commit_count}",
        figures,
    )


def judge_lag(lag: Mapping[TopicPartition, int], limits: Limits) -> Verdict:
    """Judge how many messages are not in the table yet."""
    total = sum(lag.values())
    figures = {"lag_messages": total, "lag_messages_max": max(lag.values(), default=0)}
    says = f"{total:,} messages are not in the table yet ({limits.described()})"
    return Verdict(limits.grade(total), says, figures)


def unknown_lag(reason: str) -> Verdict:
    """Return the verdict when the broker did not tell."""
    return Verdict(Grade.WARNING, f"lag is not known: {reason}")


def judge_dead_letters(
    dead_letter_count: int, record_count: int, limits: Limits, *, window: str
) -> Verdict:
    """Judge which part of the records became dead letters.

    Args:
        dead_letter_count: Of the window.
        record_count: All records of the window, dead letters included.
        limits: As shares of 1.
        window: For people: which records were counted.

    """
    share = dead_letter_count / record_count if record_count else 0.0
    figures = {
        "dead_letter_share": share,
        "dead_letters": dead_letter_count,
        "records": record_count,
    }
    says = (
        f"{dead_letter_count:,} of {record_count:,} records {window} are dead letters "
        f"({limits.described()})"
    )
    return Verdict(limits.grade(share), says, figures)


def judge_schema(problems: Sequence[str], *, column_count: int, is_declared: bool) -> Verdict:
    """Judge whether the table has what the declared columns need.

    Args:
        problems: What is missing or differs, one line each.
        column_count: Columns of the table.
        is_declared: Whether the pipeline declares columns.

    """
    figures = {"columns": column_count, "differences": len(problems)}
    if problems:
        return Verdict(Grade.BAD, "; ".join(problems), figures)
    if not is_declared:
        return Verdict(
            Grade.GOOD, f"{column_count} columns, inferred: there is nothing to compare", figures
        )
    return Verdict(
        Grade.GOOD, f"the table has every declared column with its type ({column_count})", figures
    )
