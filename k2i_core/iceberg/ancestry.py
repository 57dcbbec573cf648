"""How a checkpoint is found in a table, and when it must not be believed.

The nearest ancestor of the head that carries `k2i.checkpoint` is the authority, because it moves
with the data under rollback and compaction. The table property of the same name is only a proof:

| nearest carrier | property | outcome |
|---|---|---|
| snapshot S | names S | S's entry |
| snapshot S | names another snapshot | stop: rolled back outside k2i |
| none | none | a new table |
| none | names P, and a live file was added by P | the property's entry (summaries were expired) |
| none | names P, no live file of P | stop: nothing proves that P is in this history |

Only an entry of P itself proves P: later commits move the checkpoint without adding files, so an
older file says nothing. Invariant I2 rests on this table.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from k2i_core.errors import CorruptionError, ErrorKind
from k2i_core.iceberg.gateway import SnapshotView, TableView
from k2i_core.ledger import CHECKPOINT_KEY, Entry, decode_entry, encode_entry

PROPERTY_BYTES_MAX = 3_500
"""Hive keeps table properties in columns of 4,000 characters: larger and the commit fails there;
smaller and pipelines with fewer Kafka partitions lose the fallback after a foreign expiration."""


def property_text(entry: Entry) -> str:
    """Return what the table property holds: the entry, or only its snapshot id when it is long."""
    text = encode_entry(entry)
    if len(text) <= PROPERTY_BYTES_MAX:
        return text
    return json.dumps({"snapshot": entry.snapshot_id, "omitted": "size"}, separators=(",", ":"))


def read_entry(view: TableView, has_live_entry: Callable[[int], bool]) -> Entry | None:
    """Find the table's current ledger entry.

    Args:
        view: One load of the table.
        has_live_entry: Whether the head's manifests hold a live file that the given snapshot
            added; asked only when no retained ancestor carries a checkpoint.

    Returns:
        The entry, or None for a table that k2i never committed to.

    Raises:
        CorruptionError: The table was rolled back outside k2i, or nothing proves the stored
            checkpoint; the message names the command that settles it.

    """
    carrier = carrier_of(view, view.head_snapshot_id)
    claimed = _claimed_snapshot_id(view)
    if carrier is not None:
        if claimed != carrier.snapshot_id:
            message = (
                f"table was rolled back outside k2i: its history ends at checkpoint snapshot_id="
                f"{carrier.snapshot_id} but the last commit was snapshot_id={claimed}; accept it "
                f"with `k2i table rewind --to-snapshot {carrier.snapshot_id}`"
            )
            raise CorruptionError(message, kind=ErrorKind.ROLLED_BACK_OUTSIDE)
        # Safe because a carrier always names itself; a copied summary would not.
        return replace(decode_entry(carrier.summary[CHECKPOINT_KEY]), snapshot_id=claimed)
    if claimed is None:
        return None
    assert view.checkpoint_property is not None
    if "omitted" not in json.loads(view.checkpoint_property) and has_live_entry(claimed):
        return decode_entry(view.checkpoint_property)
    message = (
        f"no retained snapshot carries a checkpoint and nothing proves that snapshot_id={claimed} "
        f"is part of this table's history; keep the table as it is and compare it with the topic: "
        f"`k2i verify`"
    )
    raise CorruptionError(message, kind=ErrorKind.CHECKPOINT_UNPROVEN)


def carrier_of(view: TableView, snapshot_id: int | None) -> SnapshotView | None:
    """Return the nearest retained ancestor of a snapshot, itself included, with a checkpoint."""
    ancestors = view.ancestors_of(snapshot_id)
    return next((s for s in ancestors if CHECKPOINT_KEY in s.summary), None)


def _claimed_snapshot_id(view: TableView) -> int | None:
    if view.checkpoint_property is None:
        return None
    try:
        return int(json.loads(view.checkpoint_property)["snapshot"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"table property {CHECKPOINT_KEY} cannot be read; set it back or unset it"
        raise CorruptionError(message, kind=ErrorKind.LEDGER_UNREADABLE) from error
