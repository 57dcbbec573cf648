"""The rolling writer with an encoder of its own.

Goal: a row group is encoded while the next one fills, and that changes nothing but the time: the
same rows in the same files, memory that is counted, failures that come out.
Method: the store in memory behind a gate, so that a test decides when the encoder may write.
"""

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest

from k2i_core.errors import UnavailableError
from k2i_core.ingest.lanes import UnqueuedExecutor
from k2i_core.parquet import writer as writer_module
from k2i_core.parquet.writer import RollingWriter
from k2i_core.write_target import WriteLimits, WriteTarget
from tests.unit.parquet.memory_store import (
    FixedClock,
    MemoryFile,
    MemoryStore,
    integers,
    rows_with,
    with_field_ids,
)

GROUP = WriteLimits(row_group_rows_max=1_000)
WAIT_SECONDS = 10.0


class Gate:
    """Lets the encoder create files, or keeps it waiting."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.may_pass = threading.Event()
        self.is_reached = threading.Event()

    def open_output(self, path: str) -> MemoryFile:
        self.is_reached.set()
        assert self.may_pass.wait(WAIT_SECONDS)
        return self.store.open_output(path)

    def assert_holds(self, call: Callable[[], object]) -> None:
        """A call does not end before the encoder may go on, and then it does."""
        with ThreadPoolExecutor(1) as caller:
            called = caller.submit(call)
            assert self.is_reached.wait(WAIT_SECONDS)
            with pytest.raises(TimeoutError):
                called.result(timeout=0.1)
            self.may_pass.set()
            called.result(timeout=WAIT_SECONDS)

    def target(self, **changes: Any) -> WriteTarget:
        schema = with_field_ids(integers(0, 1).schema)
        settings = {"limits": GROUP, "open_output": self.open_output, **changes}
        return self.store.target(schema, **settings)


@pytest.fixture
def encoder() -> Generator[UnqueuedExecutor]:
    with UnqueuedExecutor("encode") as executor:
        yield executor


@pytest.fixture
def gate() -> Generator[Gate]:
    made = Gate()
    yield made
    made.may_pass.set()


def writer_of(store: MemoryStore, target: WriteTarget, encoder: UnqueuedExecutor) -> RollingWriter:
    return RollingWriter(target, FixedClock(), store.announce, encoder=encoder)


def test_the_files_are_those_of_a_writer_without_an_encoder(encoder: UnqueuedExecutor) -> None:
    batches = [
        rows_with(start, payload=pa.array([os.urandom(100) for _ in range(370)], pa.binary()))
        for start in range(0, 7_400, 370)
    ]
    files: list[dict[str, bytes]] = []
    for own in (None, encoder):
        store = MemoryStore()
        schema = with_field_ids(batches[0].schema)
        target = store.target(schema, limits=GROUP, target_file_bytes=300_000)
        writer = RollingWriter(target, FixedClock(), store.announce, encoder=own)
        for batch in batches:
            writer.write(batch)
        written = writer.close()
        assert sum(file.row_count for file in written) == 7_400
        assert len(written) > 1
        files.append(store.contents)

    assert files[0] == files[1]


def test_rows_fill_the_next_group_while_one_is_encoded_and_both_are_counted(
    gate: Gate, encoder: UnqueuedExecutor
) -> None:
    writer = writer_of(gate.store, gate.target(), encoder)

    writer.write(integers(0, 1_000))
    assert gate.is_reached.wait(WAIT_SECONDS)
    one = writer.buffered_bytes
    writer.write(integers(1_000, 900))
    both = writer.buffered_bytes
    gate.may_pass.set()
    (file,) = writer.close()

    assert one > 0
    assert both > 1.8 * one
    assert writer.buffered_bytes == 0
    assert [row["id"] for row in gate.store.rows_of(file)] == list(range(1_900))


def test_a_second_full_group_waits_for_the_first(gate: Gate, encoder: UnqueuedExecutor) -> None:
    writer = writer_of(gate.store, gate.target(), encoder)
    writer.write(integers(0, 1_000))

    gate.assert_holds(lambda: writer.write(integers(1_000, 1_000)))

    assert sum(file.row_count for file in writer.close()) == 2_000


def test_more_bytes_than_may_wait_wait_with_the_caller(
    gate: Gate, encoder: UnqueuedExecutor
) -> None:
    limits = WriteLimits(row_group_rows_max=1_000, buffered_bytes_max=10_000)
    writer = writer_of(gate.store, gate.target(limits=limits), encoder)

    gate.assert_holds(lambda: writer.write(integers(0, 500)))

    assert writer.buffered_bytes == 0
    assert sum(file.row_count for file in writer.close()) == 500


@pytest.mark.parametrize("is_closed", [False, True])
def test_what_the_encoder_raises_the_next_call_raises(
    is_closed: bool, gate: Gate, encoder: UnqueuedExecutor
) -> None:
    gate.store.fails_on_open = True
    gate.may_pass.set()
    writer = writer_of(gate.store, gate.target(), encoder)
    writer.write(integers(0, 1_000))

    def go_on() -> None:
        if is_closed:
            writer.close()
        else:
            writer.write(integers(1_000, 1_000))

    with pytest.raises(UnavailableError, match="could not create path=file-0"):
        go_on()

    with pytest.raises(AssertionError):
        writer.write(integers(0, 1))
    writer.abandon()
    assert gate.store.open_paths == set()


def test_to_abandon_waits_for_the_encoder_and_closes_its_file(
    gate: Gate, encoder: UnqueuedExecutor
) -> None:
    writer = writer_of(gate.store, gate.target(), encoder)
    writer.write(integers(0, 1_000))
    assert gate.is_reached.wait(WAIT_SECONDS)

    gate.assert_holds(writer.abandon)

    assert gate.store.open_paths == set()
    assert not gate.store.contents["file-0"].endswith(b"PAR1")


def test_to_abandon_does_not_wait_for_ever(
    gate: Gate, encoder: UnqueuedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "ABANDON_SECONDS_MAX", 0.05)
    writer = writer_of(gate.store, gate.target(), encoder)
    writer.write(integers(0, 1_000))
    assert gate.is_reached.wait(WAIT_SECONDS)

    writer.abandon()

    assert not gate.may_pass.is_set()


def test_an_executor_without_a_queue_takes_a_job_when_the_last_has_ended() -> None:
    may_end = threading.Event()
    with UnqueuedExecutor("encode") as executor, ThreadPoolExecutor(1) as caller:
        executor.submit(may_end.wait, WAIT_SECONDS)
        second = caller.submit(executor.submit, lambda: "second")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.1)
        may_end.set()
        assert second.result(timeout=WAIT_SECONDS).result(timeout=WAIT_SECONDS) == "second"
        with suppress(ZeroDivisionError):
            executor.submit(lambda: 1 // 0).result(timeout=WAIT_SECONDS)
        assert executor.submit(lambda: "third").result(timeout=WAIT_SECONDS) == "third"
    assert executor.cpu_seconds >= 0
    for _ in range(2):  # the second does not wait for what never ran
        with pytest.raises(RuntimeError, match="shutdown"):
            executor.submit(lambda: "late")
