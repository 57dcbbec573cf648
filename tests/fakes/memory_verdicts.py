"""Reads verdicts from a dead-letter table in memory, as its take-over left it."""

from collections import defaultdict
from collections.abc import Mapping

from k2i_core.iceberg.gateway import TableGateway, TableView
from k2i_core.offsets import TopicPartition
from k2i_core.records import TableState
from tests.fakes.memory_files import MemoryFiles
from tests.fakes.memory_gateway import version_of


class MemoryVerdicts:
    """The `ReadVerdicts` port."""

    def __init__(self, gateway: TableGateway, files: MemoryFiles) -> None:
        """Bind the store; the gateway is for those who would load anew."""
        self.gateway = gateway
        self._files = files

    def __call__(
        self,
        target_table: str,  # noqa: ARG002 - there is one target in memory
        from_offsets: Mapping[TopicPartition, int],
        since_sequence_numbers: Mapping[str, int],  # noqa: ARG002 - topics are not recreated here
        state: TableState,
    ) -> Mapping[TopicPartition, frozenset[int]]:
        assert isinstance(state.view, TableView)
        verdicts: dict[TopicPartition, set[int]] = defaultdict(set)
        for path in version_of(state.view).live:
            for topic_partition, offset in self._files.files[path].origins:
                if offset >= from_offsets.get(topic_partition, offset + 1):
                    verdicts[topic_partition].add(offset)
        return {tp: frozenset(offsets) for tp, offsets in verdicts.items()}
