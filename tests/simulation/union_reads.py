"""I4 in the simulation: whatever load of the table meets whatever pages, the union is exact.

A reader looks at pages and table at two moments and in either order. So at every change of a page
the last loads of the table are tried, and at every landing the last pages of each host: more
combinations than readers would meet, and without a choice, so that a seed means the same with
readers and without. A combination that the seam calls stale is one that a reader does not use.
"""

from collections import Counter, deque
from collections.abc import Collection, Mapping

from k2i_core.errors import CorruptionError
from k2i_core.iceberg.ancestry import read_entry
from k2i_core.offsets import TopicPartition
from k2i_core.query import seam
from tests.fakes.judging_decoder import BAD, GOOD
from tests.fakes.memory_files import MemoryFiles
from tests.fakes.memory_hot_rows import HotHost, MemoryPage
from tests.fakes.memory_source import MemoryBroker
from tests.fakes.memory_table import MemoryTable, Version
from tests.fakes.several_rows import whole_records
from tests.invariants import i4_broken

LOADS_TRIED = 3
PAGES_KEPT = 3


class UnionReads:
    """Every reader that there could be."""

    def __init__(
        self, target: MemoryTable, files: MemoryFiles, broker: MemoryBroker, *, explodes: bool
    ) -> None:
        self._target = target
        self._files = files
        self._broker = broker
        self._explodes = explodes
        self._seen: dict[int, deque[tuple[MemoryPage, ...]]] = {}
        self.counts: Counter[str] = Counter()

    def page_changed(self, host: HotHost) -> list[str]:
        pages = tuple(host.pages.values())
        self._seen.setdefault(id(host), deque(maxlen=PAGES_KEPT)).append(pages)
        return [
            wrong
            for version in self._target.versions[-LOADS_TRIED:]
            for wrong in self._read(version, pages)
        ]

    def landed(self) -> list[str]:
        return [
            wrong
            for seen in self._seen.values()
            for pages in seen
            for wrong in self._read(self._target.current, pages)
        ]

    def _read(self, version: Version, pages: Collection[MemoryPage]) -> list[str]:
        try:
            entry = read_entry(version.view, lambda i: i in version.live.values())
        except CorruptionError:
            return []
        if entry is None or any(path not in self._files.files for path in version.live):
            return []
        found = seam.find_seam(entry, [one.page for one in pages])
        if found.is_stale:
            self.counts["stale reads"] += 1
            return []
        shown: dict[TopicPartition, Counter[int]] = {}
        for path in version.live:
            for tp, offset in self._files.files[path].origins:
                shown.setdefault(tp, Counter())[offset] += 1
        rows_of = {id(one.page): one.rows for one in pages}
        for chosen in found.chosen:
            for tp, offset in _counted(chosen, rows_of[id(chosen.page)]):
                shown.setdefault(tp, Counter())[offset] += 1
                self.counts["hot rows read"] += 1
        self.counts["union reads"] += 1
        if self._explodes:
            shown = {tp: whole_records(rows) for tp, rows in shown.items()}
        always = {
            tp: {o for o, v in enumerate(values) if v == GOOD}
            for tp, values in self._broker.values.items()
        }
        never = {
            tp: {o for o, v in enumerate(values) if v in (None, BAD)}
            for tp, values in self._broker.values.items()
        }
        return i4_broken(found.frontier, shown, always=always, never=never)


def _counted(
    chosen: seam.ChosenPage, rows: Mapping[int, tuple[tuple[TopicPartition, int], ...]]
) -> list[tuple[TopicPartition, int]]:
    index, limits = chosen.page.index, chosen.from_offsets
    return [
        (tp, offset)
        for generation in chosen.page.state.generations
        for tp, offset in rows[generation]
        if offset >= limits[index[tp]]
    ]
