"""Reads verdicts from a dead-letter table in memory, as its take-over left it."""

from collections import defaultdict
from collections.abc import Callable, Mapping

from k2i_core.iceberg.gateway import TableGateway, TableView
from k2i_core.offsets import TopicPartition
from k2i_core.records import TableState
from tests.fakes.memory_files import MemoryFiles
from tests.fakes.memory_gateway import version_of


class MemoryVerdicts:
    """The `ReadVerdicts` port."""

    def __init__(
        self,
        gateway: TableGateway,
        files: MemoryFiles,
        is_of: Callable[[str, TopicPartition, int], bool] = lambda _table, _tp, _offset: True,
    ) -> None:
        """Bind the store; the gateway is for those who would load anew.

        `is_of` tells whether a dead letter is a table's.
        """
        self.gateway = gateway
        self._files = files
        self._is_of = is_of

    def __call__(
        self,
        target_table: str,
        from_offsets: Mapping[TopicPartition, int],
        since_sequence_numbers: Mapping[str, int],  # noqa: ARG002 - topics are not recreated here
        state: TableState,
    ) -> Mapping[TopicPartition, frozenset[int]]:
        assert isinstance(state.view, TableView)
        verdicts: dict[TopicPartition, set[int]] = defaultdict(set)
        for path in version_of(state.view).live:
            for topic_partition, offset in self._files.files[path].origins:
                if offset >= from_offsets.get(topic_partition, offset + 1) and self._is_of(
                    target_table, topic_partition, offset
                ):
                    verdicts[topic_partition].add(offset)
        return {tp: frozenset(offsets) for tp, offsets in verdicts.items()}
