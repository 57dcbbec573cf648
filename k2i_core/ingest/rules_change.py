"""When the rules that route records may change: when all tables stand alike. Pure.

A crash between two commits of a generation leaves one table past records that are another one's,
which has yet to read them. Were they read by other rules, a record could come into neither table,
or into both (I1). So whoever finds the tables at different offsets has to read them with the rules
by which they came there.
"""

from collections.abc import Iterable, Mapping

from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.ledger import Entry, Share
from k2i_core.offsets import TopicPartition


def unmoved_since_judged(
    routing: str,
    share: Share,
    lead: Entry | None,
    entries: Iterable[Entry | None],
    dead_letters: Entry | None,
) -> Mapping[TopicPartition, int] | None:
    """Judge whether a worker may begin by rules with this name.

    Args:
        routing: The name of its rules.
        share: Its Kafka partitions.
        lead: The lead table, in whose ledger the owners' rules are named.
        entries: All tables, those too that are left out.
        dead_letters: Theirs.

    Returns:
        None when the rules are those of the owners before. Else the lead's next offsets by which
        this was judged: the claim has to find them unchanged, and because no table moves without
        the lead, the others are unchanged, too.

    Raises:
        ConfigError: The tables stand at different offsets; run once by the rules of before.

    """
    known = {} if lead is None else lead.checkpoint.next_offsets
    mine = {tp: next_offset for tp, next_offset in known.items() if share.holds(tp)}
    owners = [None if lead is None else lead.owner_of(tp) for tp in mine]
    if all(owner is None or owner.routing == routing for owner in owners):
        return None
    all_next = [entry.checkpoint.next_offsets for entry in entries if entry is not None]
    dead_next = dead_letters.checkpoint.next_offsets if dead_letters else {}
    for topic_partition in sorted(mine):
        found = {ns[topic_partition] for ns in all_next if topic_partition in ns}
        if len(found) > 1 or dead_next.get(topic_partition, 0) > min(found):
            message = (
                f"tables, match or unmatched changed while the tables stand at different offsets "
                f"of {topic_partition}: {sorted(found)}; start the worker once with the pipeline "
                f"file of before and stop it, then change the file"
            )
            raise ConfigError(message, kind=ErrorKind.ROUTING_CHANGED)
    return mine
