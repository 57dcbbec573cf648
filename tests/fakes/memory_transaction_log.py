"""Transaction logs of one host in memory, summarized by the real code."""

from collections.abc import Callable
from dataclasses import dataclass, field

from k2i_core.ledger import Owner
from k2i_core.records import EarlierLog
from k2i_core.txlog import entries
from tests.fakes.memory_gateway import no_pause


@dataclass
class LogDirectory:
    """What a host keeps: log name → entries, and which logs a living worker holds."""

    logs: dict[str, list[entries.Entry]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)


class MemoryTransactionLog:
    """This worker's own log in a directory."""

    def __init__(
        self,
        directory: LogDirectory,
        name: str,
        pause: Callable[[str], None] = no_pause,
    ) -> None:
        self._directory = directory
        self._name = name
        self._pause = pause
        self._own: list[entries.Entry] = []
        directory.logs[name] = self._own
        directory.held.add(name)

    def earlier(self) -> tuple[EarlierLog, ...]:
        self._pause("earlier logs")
        others = [name for name in sorted(self._directory.logs) if name != self._name]
        return tuple(entries.summarize(name, self._directory.logs[name]) for name in others)

    def took_over(self, owner: Owner) -> None:
        self._pause("log take-over")
        self._own.append(entries.took_over(owner))

    def file(self, table: str, generation: int, path: str) -> None:
        self._pause("log file")
        self._own.append(entries.file(table, generation, path))

    def attempted(self, table: str, snapshot_id: int) -> None:
        self._pause("log attempt")
        self._own.append(entries.attempted(table, snapshot_id))

    def landed(self, table: str, generation: int) -> None:
        self._pause("log landed")
        self._own.append(entries.landed(table, generation))

    def prune(self, name: str) -> None:
        self._pause("prune")
        if name not in self._directory.held:
            self._directory.logs.pop(name, None)

    def close(self) -> None:
        self._pause("close log")
        self._directory.held.discard(self._name)
        if not entries.summarize(self._name, self._own).unlanded_paths:
            self._directory.logs.pop(self._name, None)
