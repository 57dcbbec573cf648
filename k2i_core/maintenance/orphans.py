"""Orphan removal: files in a table's folders that nothing needs.

Which files those are can only be told after a *barrier*: an empty commit of ours, after which no
request built on an older head can land. Then, in this order:

1. load the table, until the load contains the barrier
2. list the folders; "now" is the moment at which the store says the barrier's own file was written,
   so no host's clock is asked
3. of what is older than now − `age_seconds_min`, keep what the load reaches: data files of every
   retained snapshot, manifests, lists, statistics, the metadata log
4. of the rest, delete what bears our names and this table's UUID; report the others

Older files cannot be about to be committed: a commit refuses files of half that age. Memory: one
portion of the listing at a time is compared with the manifests (`PORTION_COUNT`), and the orphans
of one run are bounded (`ORPHANS_MAX`).
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice

from pyiceberg.catalog import Catalog
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table

from k2i_core.clock import Clock
from k2i_core.crash_points import CrashPoint, Observer, ignore
from k2i_core.errors import ConfigError, CorruptionError, ErrorKind
from k2i_core.iceberg.commit import TableCommitter
from k2i_core.iceberg.decisions import decide_carry
from k2i_core.iceberg.deletion import delete_files, folders_of, refuse_if_kept
from k2i_core.iceberg.failures import translated
from k2i_core.iceberg.listing import ListedFile, list_files, modified_ms
from k2i_core.iceberg.locations import is_inside, normalise
from k2i_core.iceberg.manifests import read_live_entries
from k2i_core.iceberg.neighbours import find_neighbours
from k2i_core.iceberg.unreachable import metadata_locations
from k2i_core.iceberg.views import table_of, view_of
from k2i_core.iceberg.write_targets import UUID_DIGITS
from k2i_core.maintenance.report import MaintenanceReport, Progress, no_progress
from k2i_core.records import TableState

AGE_SECONDS_MIN = 24 * 3_600
"""No younger file is ever an orphan, whatever the settings say."""

PORTION_COUNT = 100_000
"""Listed files compared with the manifests at once. Larger costs memory, some 50 MB each; smaller
reads the manifests of a large table more often."""

ORPHANS_MAX = 500_000
"""Orphans deleted by one run. Larger costs memory; what is over comes next time."""

SAMPLE_COUNT = 1_000
"""Live files of the head that the listing is held against."""

EXAMPLE_COUNT = 5
"""Foreign files named in a report."""

_TABLE_METADATA = re.compile(r"\d{5,}-[0-9a-f-]{36}(\.gz)?\.metadata\.json(\.gz)?")


@dataclass(frozen=True, slots=True)
class OwnNames:
    """Tells the names that k2i gives to files of one table.

    Attributes:
        table_uuid: With dashes.
        metadata_folder: Where its metadata files lie.
    """

    table_uuid: str
    metadata_folder: str

    def is_own(self, location: str) -> bool:
        """Tell whether k2i named the file as one of this table.

        Metadata files of the table as a whole are named by the catalog's client and bear no table's
        UUID; `is_table_metadata` finds them, and their content tells whose they are.
        """
        name = location.rpartition("/")[2]
        if is_inside(location, (self.metadata_folder,)):
            uuid = re.escape(self.table_uuid)
            pattern = rf"\d+-{uuid}-m\d+\.avro|snap-\d+-\d+-{uuid}\.avro"
            return re.fullmatch(pattern, name) is not None
        prefix = self.table_uuid.replace("-", "")[:UUID_DIGITS]
        return name.startswith(f"{prefix}-") and name.endswith(".parquet")

    def is_table_metadata(self, location: str) -> bool:
        """Tell whether the name is one that catalogs give to the metadata file of some table."""
        name = location.rpartition("/")[2]
        is_here = is_inside(location, (self.metadata_folder,))
        return is_here and _TABLE_METADATA.fullmatch(name) is not None


@dataclass(slots=True)
class Found:
    """What a listing came to.

    Attributes:
        orphans: Location → bytes.
        examples: Some foreign files.
        is_cut: There are more orphans than one run takes.
    """

    listed_count: int = 0
    listed_bytes: int = 0
    young_count: int = 0
    orphans: dict[str, int] = field(default_factory=dict[str, int])
    foreign_count: int = 0
    foreign_bytes: int = 0
    examples: list[str] = field(default_factory=list[str])
    is_cut: bool = False


def judge(
    files: Collection[ListedFile],
    *,
    live_metadata: Collection[str],
    reachable: Callable[[Collection[str]], set[str]],
    is_own: Callable[[str], bool],
    older_than_ms: int,
    found: Found,
) -> None:
    """Sort one portion of a listing into orphans, foreign files and what is needed; pure.

    Args:
        files: Any part of the listing.
        live_metadata: Normalised locations that the load names.
        reachable: Which of the locations given to it the load's manifests reach.
        is_own: Whether a file bears our names.
        older_than_ms: Files written at or after this moment are left alone.
        found: Added to.

    """
    old: dict[str, int] = {}
    for file in files:
        found.listed_count += 1
        found.listed_bytes += file.byte_count
        if file.modified_ms >= older_than_ms:
            found.young_count += 1
        elif normalise(file.location) not in live_metadata:
            old[file.location] = file.byte_count
    needed = reachable(old.keys()) if old else set[str]()
    for location, byte_count in old.items():
        if location in needed:
            continue
        if not is_own(location):
            found.foreign_count += 1
            found.foreign_bytes += byte_count
            if len(found.examples) < EXAMPLE_COUNT:
                found.examples.append(location)
        elif len(found.orphans) < ORPHANS_MAX:
            found.orphans[location] = byte_count
        else:
            found.is_cut = True


def sweep_table(
    committer: TableCommitter,
    open_catalog: Callable[[], Catalog],
    clock: Clock,
    *,
    age_seconds_min: float,
    is_dry_run: bool = False,
    progress: Progress = no_progress,
    observe: Observer = ignore,
) -> MaintenanceReport:
    """Delete what nothing needs any more from a table's folders.

    Args:
        committer: The table.
        open_catalog: Used to look for tables that share its location.
        clock: For the report; never decides what is old.
        age_seconds_min: Younger files stay; at least a day.
        is_dry_run: Commit no barrier and delete nothing; the age then counts from the last commit.
        progress: Told what is being done.
        observe: Told about every step.

    Raises:
        ConfigError: k2i never committed to the table, its location is shared, or it may not be
            deleted from.
        UnavailableError: Catalog or store failed; run it again.
        CorruptionError: The listing shows none of the files that are known to be there.

    """
    started = clock.boot_seconds()
    state = committer.inspect()
    refuse_if_kept(table_of(view_of(state)))
    decide_carry(state.entry)
    notes = _refuse_shared_location(open_catalog, table_of(view_of(state)))
    snapshot_ids: tuple[int, ...] = ()
    if not is_dry_run:
        state, barrier = raise_barrier(committer)
        snapshot_ids = (barrier,)
        observe(CrashPoint.BARRIER_COMMITTED)
    view = view_of(state)
    found = _look(committer, state, snapshot_ids, age_seconds_min, progress)
    observe(CrashPoint.ORPHANS_JUDGED)
    if not is_dry_run and found.orphans:
        total = len(found.orphans)
        delete_files(
            table_of(view),
            found.orphans.keys(),
            lambda count: progress("deleting orphans", count, total),
        )
    observe(CrashPoint.ORPHANS_DELETED)
    return _report(
        committer.identifier,
        found,
        clock.boot_seconds() - started,
        is_dry_run=is_dry_run,
        snapshot_ids=snapshot_ids,
        notes=notes,
    )


def raise_barrier(committer: TableCommitter) -> tuple[TableState, int]:
    """Commit what ends every older request, and return a load that contains it, and its id.

    Raises:
        ConfigError: k2i never committed to the table.
        FencedError: The commit was rolled back at once.
        UnavailableError: The catalog failed; run it again.

    """
    barrier = committer.maintain("barrier", lambda _view, stored: decide_carry(stored))
    return committer.inspect_after(barrier.snapshot_id), barrier.snapshot_id


def _refuse_shared_location(open_catalog: Callable[[], Catalog], table: Table) -> tuple[str, ...]:
    neighbours, skipped_count = find_neighbours(open_catalog(), table)
    if neighbours:
        message = (
            f"location={table.location()} of table={'.'.join(table.name())} is shared with "
            f"{'; '.join(neighbours)}: files of one would be orphans of the other, so nothing was "
            f"deleted; give each table a location of its own"
        )
        raise ConfigError(message)
    if skipped_count:
        return (f"{skipped_count:,} tables of the catalog were not looked at for shared locations",)
    return ()


def _look(
    committer: TableCommitter,
    state: TableState,
    barrier: tuple[int, ...],
    age_seconds_min: float,
    progress: Progress,
) -> Found:
    view = view_of(state)
    table = table_of(view)
    head = view.head_snapshot_id if not barrier else barrier[0]
    snapshot = table.metadata.snapshot_by_id(head) if head is not None else None
    assert snapshot is not None, "a table with a checkpoint has snapshots"
    now_ms = modified_ms(table.io, snapshot.manifest_list)
    older_than_ms = now_ms - int(max(age_seconds_min, AGE_SECONDS_MIN) * 1000)
    names = OwnNames(view.table_uuid, table.location_provider().metadata_path)
    # What must be seen, if the listing shows the folders that the table's files are in.
    expected_list = {normalise(snapshot.manifest_list)}
    expected_data = _some_live_files(table)
    is_data_expected = bool(expected_data)
    live_metadata = metadata_locations(view)
    found = Found()
    for portion in _portions(table):
        spelled = {normalise(file.location) for file in portion}
        expected_list -= spelled
        if expected_data & spelled:
            expected_data, is_data_expected = set(), False
        judge(
            portion,
            live_metadata=live_metadata,
            reachable=lambda paths: committer.reachable(state, paths),
            is_own=lambda location: _is_own(table, names, location),
            older_than_ms=older_than_ms,
            found=found,
        )
        progress("looking at files", found.listed_count, found.listed_count)
    if expected_list or is_data_expected:
        message = (
            f"listing {', '.join(folders_of(table))} shows none of the live files of table="
            f"{committer.identifier}, so nothing was deleted; check location, write.data.path and "
            f"the store's settings"
        )
        raise CorruptionError(message, kind=ErrorKind.PATH_OUTSIDE_TABLE)
    return found


def _portions(table: Table) -> Iterator[list[ListedFile]]:
    """Yield the files of all folders of a table, a bounded number at a time."""
    files = (
        file
        for folder in folders_of(table)
        for listed in list_files(table.io, folder)
        for file in listed
    )
    while portion := list(islice(files, PORTION_COUNT)):
        yield portion


def _some_live_files(table: Table) -> set[str]:
    """Return, normalised, live files of the head that lie in the table's folders."""
    head = table.current_snapshot()
    if head is None:
        return set()
    folders = folders_of(table)
    with translated(f"read manifests of table {'.'.join(table.name())}"):
        entries = read_live_entries(table.io, head.manifests(table.io))
        paths = (entry.data_file.file_path for entry in islice(entries, SAMPLE_COUNT))
        return {normalise(path) for path in paths if is_inside(path, folders)}


def _is_own(table: Table, names: OwnNames, location: str) -> bool:
    if names.is_own(location):
        return True
    if not names.is_table_metadata(location):
        return False
    # Not many: those of commits that lost a race, and those that dropped out of the metadata log.
    try:
        with translated(f"read {location}"):
            content = FromInputFile.table_metadata(table.io.new_input(location))
    except (ConfigError, CorruptionError):
        return False  # no metadata, so not provably ours
    return str(content.table_uuid) == names.table_uuid


def _report(
    identifier: str,
    found: Found,
    seconds: float,
    *,
    is_dry_run: bool,
    snapshot_ids: tuple[int, ...],
    notes: tuple[str, ...],
) -> MaintenanceReport:
    byte_count = sum(found.orphans.values())
    verb = "would delete" if is_dry_run else "deleted"
    if found.orphans:
        did = f"{verb} {len(found.orphans):,} orphans of {byte_count:,} bytes"
    else:
        did = f"no orphans among {found.listed_count:,} files"
    if found.foreign_count:
        examples = ", ".join(found.examples)
        note = (
            f"{found.foreign_count:,} files of {found.foreign_bytes:,} bytes are not k2i's and no "
            f"snapshot needs them; they stay: {examples}"
        )
        notes = (*notes, note)
    if found.is_cut:
        notes = (*notes, f"there are more than {ORPHANS_MAX:,} orphans: run it again")
    return MaintenanceReport(
        step="orphans",
        table=identifier,
        is_dry_run=is_dry_run,
        did=did,
        figures={
            "files_listed_count": found.listed_count,
            "files_listed_bytes": found.listed_bytes,
            "files_too_young_count": found.young_count,
            "orphans_count": len(found.orphans),
            "orphans_bytes": byte_count,
            "foreign_files_count": found.foreign_count,
            "foreign_files_bytes": found.foreign_bytes,
            "duration_seconds": round(seconds, 3),
        },
        snapshot_ids=snapshot_ids,
        notes=notes,
    )
