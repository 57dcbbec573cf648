"""What every check of a committed table is called, what it asks, and what to do when it fails.

One list for the command line, the orchestrator and the documentation. Names are stable: they are
stored with every evaluation. Values only, and light to import.
"""

from dataclasses import dataclass
from types import MappingProxyType

from k2i_core.config import Pipeline


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check.

    Attributes:
        name: Stable.
        question: What holds when it passes.
        remedy: What to do when it does not.
        is_error: Whether a failure is an error, or only a warning.
        is_full_only: Whether its cost follows the table, so that only a full audit asks it.
    """

    name: str
    question: str
    remedy: str
    is_error: bool = True
    is_full_only: bool = False


CHAIN = "chain"
FILES = "files"
SUMMARY_TOTALS = "summary_totals"
MANIFEST_COUNTS = "manifest_counts"
CLAIMED_COUNTS = "claimed_counts"
FOOTERS = "footers"
FILE_SCHEMA = "file_schema"
REWRITES = "rewrites"
ROW_COUNTS = "row_counts"
NO_DUPLICATES = "no_duplicates"
NO_STRAYS = "no_strays"
REQUIRED_COLUMNS = "required_columns"
DEAD_LETTERS = "dead_letters"
NULL_RATES = "null_rates"
STATISTICS = "statistics"
SMALL_FILES = "small_files"
SECOND_READER = "second_reader"
UNIQUE_KEY = "unique_key"

_FIND_THE_WRITER = "find out who changed the table's files, and bring it back with a backup of them"
_PROVE = "list the offsets with `k2i verify`; rewind to a good snapshot with `k2i table rewind`"

_ALL = (
    CheckSpec(
        CHAIN,
        "The last audited snapshot is still part of the table's history.",
        "find out who rolled the table back; an audit with accept begins anew from here",
    ),
    CheckSpec(
        FILES,
        "Every data file exists and has the size that its manifest says.",
        "restore the files from a backup, or rewind to a snapshot without them",
    ),
    CheckSpec(
        SUMMARY_TOTALS,
        "In each snapshot's summary, totals are those of the snapshot before, plus what was "
        "added, less what was deleted.",
        _FIND_THE_WRITER,
    ),
    CheckSpec(
        MANIFEST_COUNTS,
        "The manifests list as many files and rows as the snapshot's summary says.",
        _FIND_THE_WRITER,
    ),
    CheckSpec(
        CLAIMED_COUNTS,
        "Each commit of a worker added as many rows as it claims offsets for.",
        _PROVE,
    ),
    CheckSpec(
        FOOTERS,
        "Every data file can be opened and its footer counts the rows that the manifest says.",
        "restore the file from a backup, or rewind to a snapshot without it",
    ),
    CheckSpec(
        FILE_SCHEMA,
        "Every column of a data file is a column of the table, by id, name and type.",
        "find out who wrote the file; readers return nulls for what they cannot place",
    ),
    CheckSpec(
        REWRITES,
        "Commits that replaced files replaced them by the same rows.",
        "rewind to the snapshot before the rewrite while it is retained; keep the files of both",
    ),
    CheckSpec(
        ROW_COUNTS,
        "The table has as many rows in the audited offsets as the ledger counted.",
        _PROVE,
    ),
    CheckSpec(
        NO_DUPLICATES,
        "No row is there twice, by topic, Kafka partition, offset, and number in its record.",
        _PROVE,
    ),
    CheckSpec(
        NO_STRAYS,
        "No row was appended with an offset that no commit since the last audit claims.",
        _PROVE,
    ),
    CheckSpec(
        REQUIRED_COLUMNS,
        "No required column is null.",
        "find out who wrote the rows; a worker writes no null into a required column",
    ),
    CheckSpec(
        DEAD_LETTERS,
        "Dead letters are as many as the ledger counted, and none is also a row.",
        _PROVE,
    ),
    CheckSpec(
        NULL_RATES,
        "No column is null much more often in the new rows than in the table before.",
        "ask the producer whether a field was renamed or dropped",
        is_error=False,
    ),
    CheckSpec(
        STATISTICS,
        "The statistics in the manifests are possible: no more nulls than values, no lower bound "
        "above its upper bound.",
        "find out who wrote the file: readers skip files by these bounds",
        is_error=False,
    ),
    CheckSpec(
        SMALL_FILES,
        "Most files are near the size that compaction aims at.",
        "let compaction run, more often or with a larger budget",
        is_error=False,
        is_full_only=True,
    ),
    CheckSpec(
        SECOND_READER,
        "DuckDB's Iceberg reader and PyIceberg see the same rows.",
        "believe neither reader; prove the rows with `k2i verify` and keep the table as it is",
        is_full_only=True,
    ),
    CheckSpec(
        UNIQUE_KEY,
        "No two rows have the same business key, as monitoring.unique_key names it.",
        "find the rows with `k2i query`; the producer sent them twice, at different offsets",
        is_full_only=True,
    ),
)

CATALOGUE = MappingProxyType({spec.name: spec for spec in _ALL})
"""Name → check, in the order in which they are shown."""


def check_specs(*, is_full: bool, has_unique_key: bool) -> tuple[CheckSpec, ...]:
    """Return k2i's own checks that an audit evaluates.

    Args:
        is_full: Whether all of the table is audited, or what is new.
        has_unique_key: Whether the pipeline names a business key.

    """
    return tuple(
        spec
        for spec in CATALOGUE.values()
        if (is_full or not spec.is_full_only) and (has_unique_key or spec.name != UNIQUE_KEY)
    )


def specs_of(pipeline: Pipeline, *, is_full: bool) -> tuple[CheckSpec, ...]:
    """Return the checks that an audit of a pipeline evaluates: k2i's own, then the file's."""
    own = check_specs(is_full=is_full, has_unique_key=bool(pipeline.monitoring.unique_key))
    shown = {check["name"]: check["sql"] for check in pipeline.redacted()["checks"]}
    users = tuple(
        CheckSpec(
            check.name,
            f"No row is returned by: {shown[check.name].strip()}",
            "look at the rows with `k2i query` and the check's SQL",
            is_error=check.severity == "error",
            is_full_only=check.over == "table",
        )
        for check in pipeline.checks
        if is_full or check.over == "new_rows"
    )
    return (*own, *users)
