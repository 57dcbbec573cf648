"""What becomes of a pipeline's dead letters: real parts for listing, replay and drop."""

from dataclasses import dataclass

import pyarrow as pa

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.config import Pipeline
from k2i_core.crash_points import Observer, ignore
from k2i_core.dead_letters.drop import DropReport
from k2i_core.dead_letters.drop import drop as drop_with
from k2i_core.dead_letters.groups import LetterGroup, grouped
from k2i_core.dead_letters.reading import Selection
from k2i_core.dead_letters.replay import (
    LetterParts,
    ReplayReport,
    StepObserver,
    unobserved,
)
from k2i_core.dead_letters.replay import replay as replay_with
from k2i_core.dead_letters.states import (
    LetterStates,
    LoadedTables,
    ShowProgress,
    read_states,
    unseen,
)
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.tables import evolve
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.inspection import inspect_dead_letters, inspect_target, operator_committer
from k2i_core.wiring.record_columns import RecordColumns
from k2i_core.wiring.settings import catalog_opener, check_text_keys, declared_schema


@dataclass(frozen=True, slots=True)
class DeadLettersNow:
    """One look at a pipeline's dead letters."""

    loaded: LoadedTables
    states: LetterStates

    def groups(self, show: ShowProgress = unseen) -> list[LetterGroup]:
        """Group them by reason."""
        return grouped(self.loaded, self.states, show)


def look_at(pipeline: Pipeline, show: ShowProgress = unseen) -> DeadLettersNow | None:
    """Look at a pipeline's dead letters; None while there is no table for them.

    Args:
        pipeline: Whose.
        show: Told how far it has come.

    Raises:
        CorruptionError: Table and ledger disagree.
        UnavailableError: Catalog or store did not answer.

    """
    try:
        target = inspect_target(pipeline)
    except ConfigError as error:
        if error.kind is ErrorKind.TABLE_MISSING:
            return None
        raise
    dead = inspect_dead_letters(pipeline)
    if dead is None:
        return None
    loaded = LoadedTables(target.table, target.entry, dead.table, dead.entry)
    return DeadLettersNow(loaded, read_states(loaded, show))


def replay(
    pipeline: Pipeline,
    selection: Selection,
    *,
    dry_run: bool = False,
    show: ShowProgress = unseen,
) -> ReplayReport:
    """Make rows of the selected dead letters that decode today; see `dead_letters.replay`."""
    return replay_with(letter_parts(pipeline, show=show), selection, dry_run=dry_run)


def drop(
    pipeline: Pipeline,
    selection: Selection,
    *,
    dry_run: bool = False,
    show: ShowProgress = unseen,
) -> DropReport:
    """Give the selected dead letters up; see `dead_letters.drop`."""
    return drop_with(letter_parts(pipeline, show=show), selection, dry_run=dry_run)


def letter_parts(
    pipeline: Pipeline,
    *,
    show: ShowProgress = unseen,
    observe_commit: Observer = ignore,
    observe: StepObserver = unobserved,
) -> LetterParts:
    """Return the real parts of a replay or drop.

    Args:
        pipeline: Whose dead letters.
        show: Told how far it has come.
        observe_commit: Told about the steps of each commit.
        observe: Told about all other steps.

    """
    clock, ids = SystemClock(), RandomIds()
    catalog = catalog_opener(pipeline)()
    formats = Formats(pipeline, clock)
    columns = RecordColumns(pipeline, formats)
    table = pipeline.table

    def committer(identifier: str) -> TableCommitter:
        return operator_committer(pipeline, identifier, clock, observe=observe_commit)

    def change_columns(wanted: pa.Schema) -> None:
        columns.keep(catalog, table.identifier, wanted)
        evolve(catalog, table.identifier, columns.to_table(wanted), table.schema_evolution)

    return LetterParts(
        target=committer(table.identifier),
        dead_letters=committer(pipeline.dead_letter_table),
        make_decoder=formats.make_decoder,
        fetch_schemas=formats.fetch,
        transforms=columns.transforms,
        record_columns=columns.of_table,
        table_columns=columns.to_table,
        evolve=change_columns,
        declared=declared_schema(pipeline),
        check_keys=check_text_keys if pipeline.format.key == "string" else None,
        clock=clock,
        ids=ids,
        observe=observe,
        show=show,
    )
