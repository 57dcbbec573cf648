"""What Kafka no longer has that the table still needs: found here, accepted by an operator."""

from collections.abc import Mapping

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.iceberg.decisions import Decision
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.operations import Gap, decide_accept_gap, decide_forget_topics
from k2i_core.iceberg.replaying import believed
from k2i_core.ingest.ports import Source
from k2i_core.ledger import Entry, Identity
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import CommitReport
from k2i_core.wiring.inspection import (
    inspect_dead_letters,
    inspect_target,
    operator_committer,
)


def find_gap(entry: Entry, source: Source) -> Gap:
    """Compare the ledger with the topics as they are now.

    Raises:
        UnavailableError: The broker did not answer.

    """
    topic_ids = {**entry.identity.topic_ids, **source.topic_ids()}
    identity = Identity(entry.identity.pipeline, source.cluster_id(), topic_ids)
    existing = source.partitions()
    marks = source.watermarks(existing)
    restarted: dict[str, Mapping[TopicPartition, int]] = {}
    lost: list[OffsetRange] = []
    for topic in sorted({tp.topic for tp in entry.checkpoint.next_offsets}):
        ours = {tp: n for tp, n in entry.checkpoint.next_offsets.items() if tp.topic == topic}
        is_other = (
            entry.identity.cluster_id != identity.cluster_id
            or entry.identity.topic_ids.get(topic) != topic_ids.get(topic)
            or any(tp not in existing or n > marks[tp].high for tp, n in ours.items())
        )
        if is_other:
            restarted[topic] = {tp: marks[tp].low for tp in existing if tp.topic == topic}
            continue
        lost += [
            OffsetRange(tp, next_offset, marks[tp].low)
            for tp, next_offset in sorted(ours.items())
            if next_offset < marks[tp].low
        ]
    return Gap(identity, tuple(lost), restarted)


def accept_gap(pipeline: Pipeline, gap: Gap, clock: Clock) -> CommitReport:
    """Write the operator's consent into the ledger; running workers are fenced by it."""
    dead_letters = inspect_dead_letters(pipeline) if gap.restarted else None
    if dead_letters is not None and dead_letters.entry is not None:
        own = inspect_target(pipeline).entry
        restarted = not_forgotten(gap, own, dead_letters.entry)

        def forget(view: TableView, stored: Entry | None) -> Decision:
            return decide_forget_topics(view, believed(stored), gap.identity, restarted)

        if restarted:
            # Before the target, so that no new offset is ever judged by an old dead letter.
            committer = operator_committer(pipeline, pipeline.dead_letter_table, clock)
            committer.operate("accept-gap", forget)

    def accept(view: TableView, stored: Entry | None) -> Decision:
        return decide_accept_gap(view, believed(stored), gap)

    return operator_committer(pipeline, pipeline.table.identifier, clock).operate(
        "accept-gap", accept
    )


def not_forgotten(gap: Gap, own: Entry | None, dead_letters: Entry) -> tuple[str, ...]:
    """Return the restarted topics whose dead letters are still those of the old one.

    Of several tables the first one that accepts a topic forgets its dead letters. Those that came
    since are the new topic's, and the next table to accept it must leave them alone.
    """
    new, known = gap.identity, dead_letters.identity
    is_same_cluster = known.cluster_id == new.cluster_id

    def is_done(topic: str) -> bool:
        was = None if own is None else (own.identity.cluster_id, own.identity.topic_ids.get(topic))
        is_new_to_own = was != (new.cluster_id, new.topic_ids.get(topic))
        is_known = is_same_cluster and known.topic_ids.get(topic) == new.topic_ids.get(topic)
        return is_new_to_own and is_known

    return tuple(topic for topic in gap.restarted or {} if not is_done(topic))
