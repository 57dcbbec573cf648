"""From a polled batch to rows in every table's files: split, decoded, fitted, shown, written.

`decode` runs in any thread of the decode lane; everything else belongs to the write lane, in poll
order. It is the only place where columns change and where tables open that a record names for the
first time.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

from k2i_core.ingest.decoding import (
    Breaking,
    DecodeSettings,
    WiderSchema,
    decode_fetching,
    refused_letters,
)
from k2i_core.ingest.generation import GenerationFiles
from k2i_core.ingest.parts import Parts
from k2i_core.ingest.ports import Decoder
from k2i_core.ingest.splitting import before, held_counts, record_counts, split, without_held
from k2i_core.ingest.take_over import TakenOver
from k2i_core.ingest.targets import OpenTarget, Target
from k2i_core.offsets import TopicPartition
from k2i_core.records import DecodedBatch, PolledBatch


@dataclass(frozen=True, slots=True)
class Piece:
    """What one table gets of a poll, and what its decoder of that moment made of it."""

    opened: OpenTarget
    polled: PolledBatch
    decoder: Decoder
    decoded: DecodedBatch | WiderSchema | Breaking


@dataclass(frozen=True, slots=True)
class Stop:
    """A record that a table cannot take, because its schema breaks the table."""

    opened: OpenTarget
    breaking: Breaking
    position: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """A poll, split and decoded.

    Attributes:
        unseen: Table that was not open when the poll was split → its records.
    """

    pieces: tuple[Piece, ...]
    unseen: tuple[tuple[str, PolledBatch], ...]
    counts: Mapping[TopicPartition, int]


class Writing:
    """The stages between a poll and a sealed generation."""

    def __init__(self, parts: Parts, opened: dict[str, OpenTarget]) -> None:
        """Bind parts and the session's open tables, which `begin` fills."""
        self._parts = parts
        self._opened = opened
        self._taken: TakenOver | None = None
        self._ends: dict[TopicPartition, int] = {}
        self.stop: Stop | None = None
        """Set once and for all: nothing behind it is written for any table."""

    def begin(self, taken: TakenOver) -> None:
        """Open every table that was taken over."""
        self._taken = taken
        self._ends = dict(taken.next_offsets)
        for target in self._parts.targets:
            if (own := taken.targets.get(target.identifier)) is not None:
                self._open(target, own)

    def add(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Begin to read Kafka partitions that are new; nothing is on its way meanwhile."""
        self._ends = {**next_offsets, **self._ends}

    def decode(self, polled: PolledBatch) -> Decoded:
        """Split a poll by tables, and decode what each gets."""
        routing, taken = self._parts.routing, self._taken
        assert taken is not None
        if routing is None:
            (opened,) = self._opened.values()
            return Decoded((self._decode_piece(opened, polled),), (), {})
        pieces: list[Piece] = []
        unseen: list[tuple[str, PolledBatch]] = []
        for name, own in split(polled, routing.router, taken.verdicts):
            opened = self._opened.get(name)
            if opened is None:
                unseen.append((name, own))
            elif (kept := without_held(own, opened.held)).records.num_rows:
                pieces.append(self._decode_piece(opened, kept))
        return Decoded(tuple(pieces), tuple(unseen), record_counts(polled))

    def write(self, files: GenerationFiles, polled: PolledBatch, decoded: Decoded) -> None:
        """Show and write one batch; raises what an ending of the session is."""
        fitting = self._all_fitting(files, decoded)
        if fitting is None:
            return
        for opened, batch in fitting:
            if opened.target.breaker is not None:
                # Before anything is written: the failure keeps the generation from every table.
                opened.target.breaker.judge(batch.ranges)
        self._ends.update({r.topic_partition: r.next_offset for r in polled.ranges})
        for opened, batch in fitting:
            if self._parts.routing is None:
                opened.target.hot.append(files.number, batch)
            elif batch.rows.num_rows:
                opened.show(files.number, batch, self._ends)
            files.write(opened, batch)
        self._set_aside(files, decoded.unseen)
        if self._parts.routing is None:
            ((_, batch),) = fitting
            counts = {r.offsets.topic_partition: r.counts.record_count for r in batch.ranges}
            files.read(polled.ranges, counts)
            return
        files.read(polled.ranges, decoded.counts)
        for opened in self._opened.values():
            if skipped := held_counts(polled, opened.held):
                files.skip(opened, skipped)

    def _set_aside(
        self, files: GenerationFiles, unseen: tuple[tuple[str, PolledBatch], ...]
    ) -> None:
        """Write what is a dead letter of a table that is left out.

        Its other records wait for it. These must not: once it can be told whose they are, they may
        be those of a table that is past them, and would be nobody's.
        """
        taken = self._taken
        assert taken is not None
        for name, polled in unseen:
            if name not in taken.left_out or not polled.refused:
                continue
            (target,) = (one for one in self._parts.targets if one.identifier == name)
            decided = taken.verdicts.get(name, {})
            settings = DecodeSettings(name, decided, transforms=target.transforms)
            files.set_aside(refused_letters(polled, settings, self._parts.clock.now_ms()))

    def _all_fitting(
        self, files: GenerationFiles, decoded: Decoded
    ) -> list[tuple[OpenTarget, DecodedBatch]] | None:
        """Return what each table gets; None once there is something to stop at."""
        if self.stop is not None:
            return None
        fitting: list[tuple[OpenTarget, DecodedBatch]] = []
        for piece in (*decoded.pieces, *self._decode_unseen(files, decoded.unseen)):
            fitted = self._fitting(piece, files)
            if isinstance(fitted, Breaking):
                self._stop_before(files, piece, fitted)
                return None
            fitting.append((piece.opened, fitted))
        return fitting

    def _stop_before(self, files: GenerationFiles, piece: Piece, breaking: Breaking) -> None:
        """Write what comes before the record, and nothing more.

        Of several tables each goes on at the start of this poll, in a session without this one.
        """
        record = piece.polled.records.slice(breaking.index, 1).to_pylist()[0]
        place = TopicPartition(record["topic"], record["partition"])
        if self._parts.routing is None and (earlier := before(piece.polled, breaking.index)).ranges:
            again = self._decode_piece(piece.opened, earlier)
            self.write(files, earlier, Decoded((again,), (), {}))
        if self.stop is None:
            self.stop = Stop(piece.opened, breaking, f"{place}@{record['offset']}")

    def _open(self, target: Target, next_offsets: Mapping[TopicPartition, int]) -> OpenTarget:
        assert self._taken is not None
        if target.breaker is not None:
            target.breaker.begin()
        name, now = target.identifier, self._parts.clock.boot_seconds()
        opened = OpenTarget(target, next_offsets, self._taken.verdicts.get(name, {}), now)
        target.hot.took_over(self._taken.owner, self._taken.identity, next_offsets)
        self._opened[name] = opened
        return opened

    def _decode_piece(self, opened: OpenTarget, polled: PolledBatch) -> Piece:
        decoder, fetch = opened.decoder, opened.target.fetch_schemas
        now_ms = self._parts.clock.now_ms()
        decoded = decode_fetching(polled, decoder, opened.settings, now_ms, fetch)
        return Piece(opened, polled, decoder, decoded)

    def _fitting(self, piece: Piece, files: GenerationFiles) -> DecodedBatch | Breaking:
        """Return rows that fit the table, whose columns are changed for them where need be."""
        opened = piece.opened
        while isinstance(piece.decoded, WiderSchema) or piece.decoder is not opened.decoder:
            if isinstance(piece.decoded, WiderSchema) and piece.decoder is opened.decoder:
                files.close_target(opened)
                rows = opened.target.rows
                rows.evolve(piece.decoded.row_schema)
                opened.decoder = opened.target.make_decoder(rows.row_schema)
            piece = self._decode_piece(opened, piece.polled)
        return piece.decoded

    def _decode_unseen(
        self, files: GenerationFiles, unseen: tuple[tuple[str, PolledBatch], ...]
    ) -> Generator[Piece]:
        """Open tables that a record names for the first time; a batch before may have done it."""
        routing, taken = self._parts.routing, self._taken
        for name, polled in unseen:
            assert routing is not None
            assert taken is not None
            opened = self._opened.get(name)
            if opened is None and name not in taken.left_out:
                target = routing.open_seen(name, polled)
                if target is None:
                    continue
                # Nothing of this generation was for it so far, so that it begins where that does.
                opened = self._open(target, {**self._ends, **files.starts})
                opened.is_taken = False
            if opened is not None:
                yield self._decode_piece(opened, polled)
