"""The maintenance steps of a pipeline's tables: what they are called and what they are for."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: Of its asset, of its section below `maintenance` in the pipeline file, and in the
            judgements of health.
        verb: How its job's name begins.
        does: For people, what it does.
        is_proven: Whether DuckDB proves what it does.
        is_judged: Whether health tells when it is needed; otherwise its schedule alone does.
    """

    name: str
    verb: str
    does: str
    is_proven: bool = False
    is_judged: bool = True


COMPACTION = Step(
    "compaction",
    "compact",
    "Makes few large files of many small ones, partition by partition, worst first. Before each "
    "commit DuckDB proves that the rows are the same; beside live ingestion.",
    is_proven=True,
)
MANIFESTS = Step(
    "manifests",
    "rewrite_manifests",
    "Makes few manifests of many, clustered by Iceberg partition, so that queries are planned "
    "faster. No data file is touched.",
)
EXPIRATION = Step(
    "expiration",
    "expire_snapshots",
    "Gives up old snapshots and deletes the files that only they needed; never what a running "
    "query or an unfinished commit may still read.",
)
ORPHANS = Step(
    "orphans",
    "remove_orphans",
    "Deletes files in the tables' locations that no snapshot needs, once they are old enough that "
    "nobody can still be about to commit them.",
    is_judged=False,
)

STEPS: Mapping[str, Step] = MappingProxyType(
    {step.name: step for step in (COMPACTION, MANIFESTS, EXPIRATION, ORPHANS)}
)
