"""The readers' side: the pages of one table on this host, and their batches, without a copy.

A reader keeps what it has mapped and parsed, so that looking again costs what is new. It writes
nothing and locks nothing: one that dies leaves nothing behind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from k2i_core.errors import CorruptionError
from k2i_core.hot.directories import boot_id, is_private, listed
from k2i_core.hot.layout import PageHead, PageState, SegmentState, segment_name
from k2i_core.hot.page import STATE_NAME, StatePageReader
from k2i_core.hot.segments import SegmentReader
from k2i_core.offsets import TopicPartition


class EvictedError(Exception):
    """A segment went away after its page was read; read the page again."""


@dataclass(frozen=True, slots=True)
class HotPage:
    """One look at one page.

    Attributes:
        head: Whose it is.
        state: What it covers.
        index: Kafka partition → its place in the page's vectors.
        directory: Of the session.
    """

    head: PageHead
    state: PageState
    index: Mapping[TopicPartition, int]
    directory: Path


class HotReader:
    """Every page of one table in some directories; used by one thread at a time."""

    def __init__(self, roots: Sequence[Path], table_uuid: str) -> None:
        """Name where to look; nothing has to be there."""
        # False until it was found private once: nobody else can change that afterwards.
        self._parents = {root / table_uuid: False for root in roots}
        self._table_uuid = table_uuid
        self._boot_id = boot_id()
        self._open: dict[Path, tuple[StatePageReader, Mapping[TopicPartition, int]]] = {}
        self._segments: dict[Path, dict[tuple[int, int], SegmentReader]] = {}

    def pages(self) -> list[HotPage]:
        """Look at every page of this run of the host, in no order."""
        found: list[HotPage] = []
        seen: set[Path] = set()
        for parent in self._parents:
            for directory in self._session_directories(parent):
                seen.add(directory)
                page = self._page(directory)
                if page is not None:
                    found.append(page)
        for gone in [directory for directory in self._open if directory not in seen]:
            self._forget(gone)
        return found

    def batches(self, page: HotPage, generation: int) -> list[pa.RecordBatch]:
        """Return the rows of one generation, as far as the page shows it; zero copy.

        Raises:
            EvictedError: They are gone; look at the pages again.

        """
        readers = self._segments.setdefault(page.directory, {})
        rows: list[pa.RecordBatch] = []
        for segment in page.state.segments:
            if segment.generation != generation:
                continue
            key = segment.generation, segment.number
            reader = readers.get(key)
            if reader is None:
                reader = readers[key] = SegmentReader(_path_of(page, segment))
            try:
                rows += reader.advance(segment)
            except OSError as error:
                del readers[key]
                raise EvictedError from error
        return rows

    def _session_directories(self, parent: Path) -> list[Path]:
        if not self._parents[parent]:
            self._parents[parent] = is_private(parent.parent) and is_private(parent)
        return listed(parent) if self._parents[parent] else []

    def _page(self, directory: Path) -> HotPage | None:
        opened = self._open.get(directory)
        try:
            if opened is None:
                reader = StatePageReader(directory / STATE_NAME)
                if reader.head.boot_id != self._boot_id or (
                    reader.head.table_uuid != self._table_uuid
                ):
                    return None
                opened = reader, {tp: i for i, tp in enumerate(reader.head.partitions)}
                self._open[directory] = opened
            state = opened[0].read()
        except (OSError, CorruptionError):
            # Safe because a page that cannot be read covers nothing: the table is read instead.
            self._forget(directory)
            return None
        readers = self._segments.get(directory, {})
        if len(readers) > len(state.segments):
            live = {(s.generation, s.number) for s in state.segments}
            for key in [key for key in readers if key not in live]:
                del readers[key]
        return HotPage(opened[0].head, state, opened[1], directory)

    def _forget(self, directory: Path) -> None:
        self._open.pop(directory, None)
        self._segments.pop(directory, None)


def _path_of(page: HotPage, segment: SegmentState) -> Path:
    name = segment_name(page.head.owner.epoch, segment.generation, segment.number)
    return page.head.places[segment.place] / name
