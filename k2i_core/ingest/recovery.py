"""Recovery: remove the files that earlier workers on this host wrote and never committed.

Only logs whose worker no longer owns its whole share *in that table's ledger* are settled, and of
their files only those that no retained snapshot reaches. Owners and reachability come from one
load that contains our own take-over: nothing built on an older head can land any more. Nothing is
adopted, because what landed is in the ledger (I7).
"""

from collections.abc import Iterable

from k2i_core.ingest.ports import LedgerTable, TransactionLog
from k2i_core.records import EarlierLog, TableState


def recover(
    earlier_logs: Iterable[EarlierLog],
    log: TransactionLog,
    *tables: tuple[LedgerTable, TableState],
) -> None:
    """Delete the garbage of settled logs and prune them.

    Args:
        earlier_logs: As listed before our take-over; later ones may be a successor's.
        log: Prunes.
        tables: Each table with one load of it that contains our take-over.

    """
    for earlier in earlier_logs:
        settled = [is_settled(earlier, state) for _, state in tables]
        for (table, state), is_table_settled in zip(tables, settled, strict=True):
            paths = earlier.unlanded_paths.get(table.identifier, ())
            if is_table_settled and paths:
                table.delete_files(set(paths) - table.reachable(state, paths))
        if all(settled):
            log.prune(earlier.name)


def is_settled(earlier: EarlierLog, state: TableState) -> bool:
    """Tell whether that log's worker can commit nothing to this table any more."""
    if earlier.owner is None:
        return not earlier.unlanded_paths
    return state.entry is not None and not state.entry.owns_whole_share(earlier.owner)
