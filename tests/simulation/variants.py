"""The protocol with one rule taken out of the real code, to show that the rule is needed.

Each variant patches the real modules as narrowly as the rule allows, and the simulation must find a
violation; the harmless ones must stay clean, which says that no more than that protects them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa

from k2i_core.errors import ErrorKind, FencedError, UnavailableError
from k2i_core.hot.reader import HotPage
from k2i_core.iceberg import commit, decisions, operations
from k2i_core.iceberg.commit import CommitLimits, TableCommitter
from k2i_core.iceberg.decisions import Decision
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.retention import RetentionLimits
from k2i_core.ingest import recovery, session, writing
from k2i_core.ingest import take_over as take_over_module
from k2i_core.ingest.decoding import DecodeSettings, WiderSchema
from k2i_core.ingest.landing import Landing
from k2i_core.ingest.ports import LedgerTable, TransactionLog
from k2i_core.ingest.take_over import TakenOver, take_over
from k2i_core.ingest.targets import OpenTarget
from k2i_core.ingest.writing import Writing
from k2i_core.ledger import (
    CHECKPOINT_KEY,
    Entry,
    Identity,
    LedgerRange,
    Owner,
    Totals,
    decode_entry,
)
from k2i_core.offsets import TopicPartition
from k2i_core.query import seam
from k2i_core.query.seam import ChosenPage, Seam
from k2i_core.records import (
    CountedRange,
    DecidedOffsets,
    DecodedBatch,
    EarlierLog,
    TableState,
    WrittenFile,
)
from tests.fakes.memory_files import origins_of
from tests.fakes.memory_gateway import version_of
from tests.fakes.memory_verdicts import MemoryVerdicts
from tests.simulation.maintenance_variants import (
    expire_unasserted,
    expire_what_is_named,
)
from tests.simulation.world import Surroundings

Patch = AbstractContextManager[Any]
Patches = Callable[[], Iterable[Patch]]


@dataclass(frozen=True)
class Variant:
    """A protocol to simulate.

    Attributes:
        patches: Made anew for every run.
        surroundings: Where the rule shows.
        is_sound: Whether no violation is expected.
        failing_seed: A seed with a violation, found by search; None where none is expected.
    """

    patches: Patches = tuple
    surroundings: Surroundings = field(default_factory=Surroundings)
    is_sound: bool = False
    failing_seed: int | None = None


def applied(patches: Iterable[Patch]) -> ExitStack:
    """Return all patches as one context."""
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        return stack.pop_all()
    raise AssertionError


# Who may commit.


def _known(stored: Entry | None, owner: Owner) -> Entry:
    if stored is None:
        message = f"no ledger for {owner}"
        raise FencedError(message, kind=ErrorKind.OWNER_CHANGED)
    return stored


def _no_owner() -> Iterable[Patch]:
    """Offsets alone fence; nobody asks who owns the partitions."""

    def take_over_anyway(
        stored: Entry | None,
        *,
        owner: Owner,
        identity: Identity,
        starts: Mapping[TopicPartition, int],
    ) -> Decision:
        entry = decisions._with_starts(decisions._same_identity(stored, identity), starts)
        return Decision(entry.taken_over(owner))

    yield patch.object(decisions, "_owned", _known)
    yield patch.object(commit, "decide_take_over", take_over_anyway)
    yield patch.object(
        take_over_module, "_owned_entry", lambda state, owner: _known(state.entry, owner)
    )


def _blind_retry() -> Iterable[Patch]:
    """After a refusal the same files go on the new head, as a client's own retry does it.

    Nobody owns anything and nothing is deleted, so that the retry alone is to blame.
    """
    yield from _offsets_alone_no_deletes()
    decided: list[tuple[CountedRange, ...]] = []

    def decide(
        stored: Entry | None,
        *,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> Decision:
        if not any(ranges is earlier for earlier in decided):
            decided.append(ranges)
            return decisions.decide_append(stored, owner=owner, ranges=ranges, files=files)
        assert stored is not None
        ends = {r.offsets.topic_partition: r.offsets.next_offset for r in ranges}
        added = tuple(LedgerRange(r.offsets, decisions._totals(r)) for r in ranges)
        totals = dict(stored.totals)
        for r in added:
            tp = r.offsets.topic_partition
            totals[tp] = totals.get(tp, Totals()).plus(r.totals)
        grown = replace(stored, checkpoint=stored.checkpoint.grow(ends), totals=totals)
        return Decision(grown, added, files)

    yield patch.object(commit, "decide_append", decide)


def _dead_letters_offset_fence() -> Iterable[Patch]:
    """Dead letters are committed by whoever has some; only the target is fenced."""

    def decide(
        stored: Entry | None,
        *,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> Decision:
        with patch.object(decisions, "_owned", _known):
            return decisions.decide_append_dead_letters(
                stored, owner=owner, ranges=ranges, files=files
            )

    yield patch.object(commit, "decide_append_dead_letters", decide)


@dataclass(frozen=True, slots=True)
class _Claimed(TableState):
    """A load of the dead letters with the owner that was claimed there."""

    owner: Owner = field(kw_only=True)


def _crossed_take_over() -> Iterable[Patch]:
    """Each table hands out its own epoch, and the target is not taken first."""
    dead_letter_owners: dict[Owner, Owner] = {}
    append = TableCommitter.append_dead_letters
    owned_entry = take_over_module._owned_entry

    def take_over_crossed(**parts: Any) -> TakenOver:
        source, dead_letters = parts["source"], parts["dead_letters"]
        identity = Identity(parts["pipeline"], source.cluster_id(), source.topic_ids())
        starts = take_over_module.resolve_starts(source, [parts["targets"][0].inspect().entry])
        owner, report = dead_letters.claim(parts["share"], identity, starts, 0)

        def inspect_after(snapshot_id: int) -> TableState:
            state = dead_letters.inspect_after(snapshot_id)
            return _Claimed(state.entry, state.view, owner=owner)

        claimed = _Proxy(dead_letters, take_over=lambda *_: report, inspect_after=inspect_after)
        taken = take_over(**{**parts, "dead_letters": claimed})
        dead_letter_owners[taken.owner] = owner
        return taken

    def append_as_claimed(
        self: TableCommitter,
        owner: Owner,
        ranges: tuple[CountedRange, ...],
        files: tuple[WrittenFile, ...],
    ) -> Any:
        return append(self, dead_letter_owners[owner], ranges, files)

    def owned_as_claimed(state: TableState, owner: Owner) -> Entry:
        return owned_entry(state, state.owner if isinstance(state, _Claimed) else owner)

    yield patch.object(session, "take_over", take_over_crossed)
    yield patch.object(take_over_module, "_owned_entry", owned_as_claimed)
    yield patch.object(TableCommitter, "append_dead_letters", append_as_claimed)


class _Proxy:
    """A port with some of its methods replaced."""

    def __init__(self, inner: Any, **replaced: Any) -> None:
        self._inner = inner
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


# What is believed.


def _property_first() -> Iterable[Patch]:
    """The table property is the authority."""

    def read(view: TableView, _: Callable[[int], bool]) -> Entry | None:
        text = view.checkpoint_property
        return None if text is None else decode_entry(text)

    yield patch.object(commit, "read_entry", read)


def _head_marker_only() -> Iterable[Patch]:
    """Only the current snapshot is asked; without a marker there the table counts as new."""

    def read(view: TableView, _: Callable[[int], bool]) -> Entry | None:
        head = view.snapshots.get(view.head_snapshot_id or 0)
        text = head.summary.get(CHECKPOINT_KEY) if head else None
        return None if text is None else decode_entry(text)

    yield patch.object(commit, "read_entry", read)


def _unproven_property() -> Iterable[Patch]:
    """Without a checkpoint in the history the property is believed as it is."""
    read = commit.read_entry
    yield patch.object(commit, "read_entry", lambda view, _: read(view, lambda _: True))


def _landed_by_presence() -> Iterable[Patch]:
    """A snapshot of ours that is retained counts as landed, rolled back or not."""

    def landed(view: TableView, attempted: Collection[int]) -> int | None:
        return next((i for i in attempted if i in view.snapshots), None)

    yield patch.object(commit, "_landed", landed)


def _stale_verdicts() -> Iterable[Patch]:
    """Verdicts are read from whatever load comes, not from one that contains our take-over.

    An older load lacks the dead letter of a worker that was killed between its two commits; judged
    anew, by another version of the code, the record becomes a second one, or a row beside it.
    """

    def read_anew(self: MemoryVerdicts, *asked: Any) -> Any:
        *others, state = asked
        anew = TableState(state.entry, self.gateway.load())
        return read(self, *others, anew)

    read = MemoryVerdicts.__call__
    yield patch.object(MemoryVerdicts, "__call__", read_anew)


# What is deleted.


def _no_recovery() -> Iterable[Patch]:
    yield patch.object(take_over_module, "recover", lambda *_: None)


def _delete_on_unknown() -> Iterable[Patch]:
    """A commit that seems to have failed takes its files with it."""
    attempt = TableCommitter._attempt

    def attempt_and_delete(
        self: TableCommitter, operation: str, view: TableView, decision: Decision, *rest: Any
    ) -> int | None:
        landed = attempt(self, operation, view, decision, *rest)
        if landed is None and decision.files:
            self.delete_files([file.path for file in decision.files])
            message = "gave up"
            raise UnavailableError(message)
        return landed

    yield patch.object(TableCommitter, "_attempt", attempt_and_delete)


def _recovery_before_fence() -> Iterable[Patch]:
    """Garbage is removed before the take-over, by what the table shows then."""

    def take_over_late(**parts: Any) -> TakenOver:
        for earlier in parts["log"].earlier():
            for table in (*parts["targets"], parts["dead_letters"]):
                paths = earlier.unlanded_paths.get(table.identifier, ())
                if paths:
                    table.delete_files(set(paths) - table.reachable(table.inspect(), paths))
        return take_over(**parts)

    yield patch.object(session, "take_over", take_over_late)


def _recovery_by_snapshot_id() -> Iterable[Patch]:
    """A file counts as landed while the snapshot that added it is a retained ancestor."""

    def landed(_: TableCommitter, state: TableState, paths: Collection[str]) -> set[str]:
        assert isinstance(state.view, TableView)
        added_by = version_of(state.view).live
        return {p for p in paths if p in added_by and state.view.is_ancestor(added_by[p])}

    yield patch.object(TableCommitter, "reachable", landed)


def _recovery_of_siblings() -> Iterable[Patch]:
    """Every log that was there before us is settled, whoever still owns its share."""
    yield patch.object(recovery, "is_settled", lambda _earlier, _state: True)


def _recovery_by_main_owner() -> Iterable[Patch]:
    """Who owns a share in the target is taken to own it in the dead letters."""
    recover = recovery.recover

    def recover_by_target(
        earlier: Iterable[EarlierLog],
        log: TransactionLog,
        target: tuple[LedgerTable, TableState],
        dead_letters: tuple[LedgerTable, TableState],
    ) -> None:
        judged = TableState(target[1].entry, dead_letters[1].view)
        recover(earlier, log, target, (dead_letters[0], judged))

    yield patch.object(take_over_module, "recover", recover_by_target)


def _recovery_lists_logs_late() -> Iterable[Patch]:
    """The logs are listed after the take-over."""
    recover = recovery.recover
    yield patch.object(
        take_over_module,
        "recover",
        lambda _earlier, log, *tables: recover(log.earlier(), log, *tables),
    )


def _recovery_from_stale_metadata() -> Iterable[Patch]:
    """Any load will do after the take-over."""
    yield patch.object(TableCommitter, "inspect_after", lambda self, _: self.inspect())


# Dead letters.


def _dead_letters_by_range() -> Iterable[Patch]:
    """Offsets below the dead-letter checkpoint are taken to be written already if they fail."""

    def covered(
        _self: MemoryVerdicts,
        checkpoints: Mapping[str, Mapping[TopicPartition, int]],
        from_offsets: Mapping[TopicPartition, int],
        _since: Mapping[str, int],
        state: TableState,
    ) -> Mapping[str, DecidedOffsets]:
        entry = state.entry
        assert entry is not None
        decided = {
            tp: np.arange(n, entry.checkpoint.next_offsets.get(tp, n))
            for tp, n in from_offsets.items()
        }
        return dict.fromkeys(checkpoints, decided)

    decode_fetching = writing.decode_fetching

    def decode(polled: Any, decoder: Any, settings: DecodeSettings, now_ms: int, fetch: Any) -> Any:
        decoded = decode_fetching(polled, decoder, replace(settings, verdicts={}), now_ms, fetch)
        if isinstance(decoded, WiderSchema):
            return decoded
        return replace(decoded, dead_letters=_uncovered(decoded, settings))

    yield patch.object(MemoryVerdicts, "__call__", covered)
    yield patch.object(writing, "decode_fetching", decode)


def _uncovered(decoded: DecodedBatch, settings: DecodeSettings) -> Any:
    origins = origins_of(decoded.dead_letters)
    kept = [i for i, (tp, o) in enumerate(origins) if o not in settings.verdicts.get(tp, ())]
    return decoded.dead_letters.take(pa.array(kept, pa.int64()))


# Maintenance.


def _stale_carry() -> Iterable[Patch]:
    """Every attempt of a compaction carries the checkpoint that its first load had."""
    maintain = TableCommitter.maintain

    def maintain_stale(
        self: TableCommitter,
        operation: str,
        decide: Callable[[TableView, Entry | None], Decision],
    ) -> Any:
        loaded: list[Entry | None] = []

        def decide_as_at_first(view: TableView, stored: Entry | None) -> Decision:
            loaded.append(stored)
            return decide(view, loaded[0])

        return maintain(self, operation, decide_as_at_first)

    yield patch.object(TableCommitter, "maintain", maintain_stale)


# Together.


def _design() -> Iterable[Patch]:
    """The first design: offsets fence, summaries and property as they come, no fence on start."""
    yield from _no_owner()
    yield from _unproven_property()
    yield from _recovery_before_fence()
    yield from _dead_letters_by_range()


def _offsets_alone_no_deletes() -> Iterable[Patch]:
    yield from _no_owner()
    yield from _no_recovery()


def _limits(**changes: Any) -> CommitLimits:
    return replace(Surroundings().limits, **changes)


ANY_AGE = Surroundings(limits=_limits(file_age_seconds_max=inf))
RETAINING = Surroundings(
    limits=_limits(
        retention=RetentionLimits(age_seconds_max=40.0, count_min=2, count_max=5, grace_seconds=5.0)
    )
)
REWOUND = Surroundings(rewind_weight=8, worker_count=2)
ROLLED_BACK = Surroundings(rollback_weight=6)
UNGUARDED = replace(ROLLED_BACK, sequence_guard=False)
MAINTAINED = Surroundings(is_maintained=True)
SWEPT_EARLY = replace(
    MAINTAINED,
    limits=_limits(file_age_seconds_max=8.0),
    rollbacks=False,
    sweep_weight=25,
    orphan_age_seconds=8.0,
)
MAINTAINED_ANY_AGE = replace(ANY_AGE, is_maintained=True)
MAINTAINED_UNGUARDED = replace(UNGUARDED, is_maintained=True)
PEACEFUL = Surroundings(bad_records=False, rollbacks=False)

# What readers see.


def _union_by_generation() -> Iterable[Patch]:
    """Hot is what each worker has not committed; nobody compares offsets with the table's."""

    def find_seam_anyway(entry: Entry, pages: Sequence[HotPage]) -> Seam:
        chosen: list[ChosenPage] = []
        frontier = dict(entry.checkpoint.next_offsets)
        for page in pages:
            state = page.state
            starts = state.base
            if state.snapshot_id and state.generations:
                starts = state.next_offsets[0]  # the first one is kept after its commit
            chosen.append(ChosenPage(page, starts))
            for tp, n in page.index.items():
                frontier[tp] = max(frontier.get(tp, 0), int(state.end[n]))
        return Seam(tuple(chosen), frontier, {}, frozenset(), is_stale=False)

    yield patch.object(seam, "find_seam", find_seam_anyway)


# Several tables.


def _seen_taken_over_late() -> Iterable[Patch]:
    """A table that is seen for the first time is taken over when it is its turn to be committed."""
    take_over_if_new = Landing._take_over_if_new
    append = Landing._append

    def append_after_take_over(self: Landing, one: OpenTarget, taken: TakenOver, *rest: Any) -> Any:
        take_over_if_new(self, one, taken)
        return append(self, one, taken, *rest)

    yield patch.object(Landing, "_take_over_if_new", lambda *_: None)
    yield patch.object(Landing, "_append", append_after_take_over)


def _equal_epochs() -> Iterable[Patch]:
    """Of two workers with one epoch, each believes to be the owner."""
    yield patch.object(Entry, "has_equal", lambda _self, _owner: False)


def _verdicts_where_a_table_is_behind() -> Iterable[Patch]:
    """What a table is past is no verdict any more, although others read it again."""
    read = MemoryVerdicts.__call__

    def read_above(
        self: MemoryVerdicts, checkpoints: Mapping[str, Mapping[TopicPartition, int]], *asked: Any
    ) -> Mapping[str, DecidedOffsets]:
        return {
            table: {
                tp: offsets[offsets >= checkpoints[table].get(tp, inf)]
                for tp, offsets in decided.items()
            }
            for table, decided in read(self, checkpoints, *asked).items()
        }

    yield patch.object(MemoryVerdicts, "__call__", read_above)


def _refused_wait_for_their_table() -> Iterable[Patch]:
    """What is refused while its table is left out is read again with the rest of that table."""
    yield patch.object(Writing, "_set_aside", lambda *_: None)


def _left_out_begin_later() -> Iterable[Patch]:
    """A table that is left out begins in what it does not know where the others are by then."""
    yield patch.object(take_over_module, "_unstarted", lambda *_: ())


def _rewound_begin_later() -> Iterable[Patch]:
    """So does one that is rewound to before it knew a Kafka partition."""
    yield patch.object(operations, "_begun_since", lambda *_: {})


def _append_to_paused() -> Iterable[Patch]:
    """An append that the pause's head refused is built anew, and does not ask."""
    yield patch.object(commit, "check_unpaused", lambda _view, _identifier: None)


BREAKING = Surroundings(breaking_records=True, worker_count=2)
TWO = Surroundings(has_other_target=True)
SEEN = replace(TWO, sees_other_target=True)
LEADS_VARY = replace(TWO, leads_vary=True)
LATE = replace(TWO, late_schemas=True)
LATE_AND_BREAKING = replace(LATE, breaking_records=True, worker_count=2)
SEEN_AND_BREAKING = replace(LATE_AND_BREAKING, sees_other_target=True)

VARIANTS: Mapping[str, Variant] = {
    "fixed": Variant(surroundings=Surroundings(reads=True), is_sound=True),
    "with_retention": Variant(surroundings=RETAINING, is_sound=True),
    "often_rewound": Variant(surroundings=REWOUND, is_sound=True),
    "often_rolled_back": Variant(surroundings=ROLLED_BACK, is_sound=True),
    "design": Variant(_design, ANY_AGE, failing_seed=0),
    "blind_retry": Variant(_blind_retry, PEACEFUL, failing_seed=8),
    "property_first": Variant(_property_first, failing_seed=5),
    "delete_on_unknown": Variant(_delete_on_unknown, failing_seed=1),
    "head_marker_only": Variant(_head_marker_only, failing_seed=1),
    "no_owner": Variant(_no_owner, failing_seed=1),
    "recovery_before_fence": Variant(_recovery_before_fence, failing_seed=3),
    "recovery_by_snapshot_id": Variant(_recovery_by_snapshot_id, failing_seed=5),
    "recovery_of_siblings": Variant(_recovery_of_siblings, failing_seed=60),
    "recovery_by_main_owner": Variant(_recovery_by_main_owner, REWOUND, failing_seed=342),
    "crossed_take_over": Variant(_crossed_take_over, failing_seed=22),
    "recovery_lists_logs_late": Variant(_recovery_lists_logs_late, failing_seed=124),
    "unproven_property": Variant(_unproven_property, failing_seed=51),
    "dead_letters_by_range": Variant(_dead_letters_by_range, failing_seed=0),
    "dead_letters_offset_fence": Variant(_dead_letters_offset_fence, failing_seed=21),
    "stale_carry": Variant(_stale_carry, failing_seed=16),
    "stale_verdicts": Variant(_stale_verdicts, failing_seed=392),
    "no_file_age_limit": Variant(surroundings=ANY_AGE, failing_seed=777),
    "v1_table": Variant(surroundings=UNGUARDED, failing_seed=115),
    "offsets_alone_no_deletes": Variant(_offsets_alone_no_deletes, PEACEFUL, is_sound=True),
    "recovery_from_stale_metadata": Variant(_recovery_from_stale_metadata, is_sound=True),
    "union_by_generation": Variant(_union_by_generation, Surroundings(reads=True), failing_seed=0),
    "landed_by_presence": Variant(_landed_by_presence, is_sound=True),
    "breaking": Variant(surroundings=BREAKING, is_sound=True),
    "append_to_paused": Variant(_append_to_paused, BREAKING, failing_seed=4),
    "maintained": Variant(surroundings=MAINTAINED, is_sound=True),
    "expire_unasserted": Variant(expire_unasserted, MAINTAINED_UNGUARDED, failing_seed=10),
    "expire_what_is_named": Variant(expire_what_is_named, MAINTAINED, failing_seed=0),
    "swept_early": Variant(surroundings=SWEPT_EARLY, is_sound=True),
    "swept_at_any_age": Variant(surroundings=MAINTAINED_ANY_AGE, failing_seed=129),
    "two_targets": Variant(surroundings=replace(TWO, reads=True), is_sound=True),
    "two_targets_often_rewound": Variant(
        surroundings=replace(REWOUND, has_other_target=True), is_sound=True
    ),
    "two_targets_breaking": Variant(
        surroundings=replace(BREAKING, has_other_target=True), is_sound=True
    ),
    "exploding": Variant(surroundings=Surroundings(reads=True, explodes=True), is_sound=True),
    "target_seen_first": Variant(surroundings=replace(SEEN, reads=True), is_sound=True),
    "leads_vary": Variant(surroundings=LEADS_VARY, is_sound=True),
    "late_schemas": Variant(surroundings=SEEN_AND_BREAKING, is_sound=True),
    "verdicts_where_a_table_is_behind": Variant(
        _verdicts_where_a_table_is_behind, LATE, failing_seed=3
    ),
    "refused_wait_for_their_table": Variant(
        _refused_wait_for_their_table, LATE_AND_BREAKING, failing_seed=0
    ),
    "left_out_begin_later": Variant(_left_out_begin_later, SEEN_AND_BREAKING, failing_seed=86),
    "rewound_begin_later": Variant(_rewound_begin_later, SEEN_AND_BREAKING, failing_seed=2292),
    "seen_taken_over_late": Variant(_seen_taken_over_late, SEEN, failing_seed=3),
    "equal_epochs": Variant(_equal_epochs, LEADS_VARY, failing_seed=21),
}
