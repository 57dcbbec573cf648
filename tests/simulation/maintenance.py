"""Expiration and orphan removal in the simulation: real plans and commits, over fakes that fail.

Only the looking at files is the fake's: which paths a snapshot holds, and what lies in the store.
"""

from collections.abc import Callable, Mapping

from k2i_core.errors import CorruptionError, K2iError
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.listing import ListedFile
from k2i_core.iceberg.unreachable import _without_appended_child
from k2i_core.maintenance import expiration, orphans
from k2i_core.maintenance.expiration import ExpirationLimits
from k2i_core.maintenance.orphans import Found, judge
from tests.fakes.memory_gateway import version_of
from tests.fakes.time_and_ids import EPOCH_MS
from tests.simulation.environment import Environment
from tests.simulation.workers import open_committer, open_gateway

EXPIRATION = ExpirationLimits(
    age_seconds_max=40.0, count_min=2, count_max=6, reader_grace_seconds=3.0
)


class MaintainedEnvironment(Environment):
    """The other actors, with the real maintenance among them."""

    def jobs(self) -> Mapping[str, tuple[int, Callable[[], None]]]:
        """Return the same actors; whoever deletes comes more often than in life."""
        return {**super().jobs(), "sweeper": (self._world.surroundings.sweep_weight, self.sweep)}

    def expire(self) -> None:
        """Give up snapshots, then delete what only they held."""
        self._maintain(self._expire)

    def sweep(self) -> None:
        """Raise a barrier, list, judge, delete."""
        self._maintain(self._sweep)

    def _maintain(self, act) -> None:
        world = self._world
        if self._table.current.head is None:
            return
        try:
            act()
        except K2iError as error:
            world.log(f"maintenance ends: {error}")
            world.operator_needed |= isinstance(error, CorruptionError)

    def _expire(self) -> None:
        world = self._world
        committer = open_committer(world, open_gateway(world, self._table))
        expired = expiration.give_up_snapshots(committer, EXPIRATION, world.clock)
        gone = expired.plan.removed_snapshot_ids
        held = version_of(expired.before).files
        dropping = _without_appended_child(expired.before, gone)
        doomed = {path for i in dropping for path in held[i]}
        world.counts["snapshots expired"] += len(gone)
        needed = committer.reachable(expired.after, doomed)
        self._yield()
        world.counts["files expired"] += len(doomed - needed)
        world.files.delete(doomed - needed)

    def _sweep(self) -> None:
        world = self._world
        committer = open_committer(world, open_gateway(world, self._table))
        state, barrier = orphans.raise_barrier(committer)
        view = state.view
        assert isinstance(view, TableView)
        now_ms = view.snapshots[barrier].timestamp_ms
        self._yield()
        listed = [
            ListedFile(path, 1, EPOCH_MS + int(file.finished * 1000))
            for path, file in world.files.files.items()
        ]
        found = Found()
        judge(
            listed,
            live_metadata=(),
            reachable=lambda paths: committer.reachable(state, paths),
            is_own=lambda path: path.startswith(f"{self._table.identifier}/"),
            older_than_ms=now_ms - int(world.surroundings.orphan_age_seconds * 1000),
            found=found,
        )
        self._yield()
        world.counts["orphans swept"] += len(found.orphans)
        world.files.delete(found.orphans.keys())
