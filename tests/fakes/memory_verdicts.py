"""Reads verdicts from a dead-letter table in memory, as its take-over left it."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from k2i_core.iceberg.gateway import TableGateway, TableView
from k2i_core.offsets import TopicPartition
from k2i_core.records import DecidedOffsets, TableState
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
        checkpoints: Mapping[str, Mapping[TopicPartition, int]],
        from_offsets: Mapping[TopicPartition, int],
        since_sequence_numbers: Mapping[str, int],  # noqa: ARG002 - topics are not recreated here
        state: TableState,
    ) -> Mapping[str, DecidedOffsets]:
        assert isinstance(state.view, TableView)
        found: dict[str, dict[TopicPartition, set[int]]] = defaultdict(lambda: defaultdict(set))
        for path in version_of(state.view).live:
            for topic_partition, offset in self._files.files[path].origins:
                if offset >= from_offsets.get(topic_partition, offset + 1):
                    for target in checkpoints:
                        if self._is_of(target, topic_partition, offset):
                            found[target][topic_partition].add(offset)
        return {
            target: {tp: np.array(sorted(offsets), np.int64) for tp, offsets in own.items()}
            for target, own in found.items()
        }
