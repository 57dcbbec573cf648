"""What a maintenance step did, for every face: command line, orchestrator, logs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Figure: TypeAlias = int | float


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """One step on one table.

    Attributes:
        step: compaction, manifests, expiration or orphans.
        table: Namespace and name, joined by dots.
        is_dry_run: Whether this is what would have been done.
        did: What was done, one line for people; why nothing was, where nothing had to be.
        figures: Numbers by name, for plots; the name ends with the unit (`_bytes`, `_seconds`) or
            is a count.
        snapshot_ids: Of the commits that it made.
        notes: What a person should know besides: skipped partitions with their reason, evidence.
    """

    step: str
    table: str
    is_dry_run: bool
    did: str
    figures: Mapping[str, Figure]
    snapshot_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Return it as a document."""
        return {
            "step": self.step,
            "table": self.table,
            "dry_run": self.is_dry_run,
            "did": self.did,
            "figures": dict(self.figures),
            "snapshot_ids": list(self.snapshot_ids),
            "notes": list(self.notes),
        }


Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, and how many units of how many are done; called now and then."""


def no_progress(_doing: str, _done: int, _of: int) -> None:
    """Tell nobody."""
