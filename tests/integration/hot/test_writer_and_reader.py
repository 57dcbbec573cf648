"""Goal: what a worker appends can be read at once by others, and only as long as it is not too old.

Method: the real writer and the real reader over files in a temporary directory; workers that die
are writers whose lock is let go, a full disk is a root that cannot be written. A writer that is
killed at any moment is a process of its own.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from k2i_core.clock import RandomIds
from k2i_core.hot.directories import is_private
from k2i_core.hot.reader import EvictedError, HotReader
from k2i_core.hot.writer import HotWriter
from tests.fakes.hot_rows import IDENTITY, P0, P1, TABLE_UUID, decoded, owner

MIB = 1024 * 1024


class Host:
    def __init__(self, directory: Path) -> None:
        self.roots = directory / "memory", directory / "disk"
        self.troubles: list[str] = []
        self.writers: list[HotWriter] = []

    def writer(self, byte_count_max: int = 64 * MIB) -> HotWriter:
        writer = HotWriter(
            self.roots,
            TABLE_UUID,
            RandomIds().token,
            byte_count_max=byte_count_max,
            report=self.troubles.append,
        )
        self.writers.append(writer)
        return writer

    def reader(self) -> HotReader:
        return HotReader(self.roots, TABLE_UUID)

    def files(self) -> list[str]:
        return sorted(p.name for root in self.roots for p in root.rglob("*") if p.is_file())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    for writer in made.writers:
        writer.abandon()


def shown(reader: HotReader) -> dict[str, list[int]]:
    """Kafka partition → offsets, over all pages."""
    found: dict[str, list[int]] = {}
    for page in reader.pages():
        for generation in page.state.generations:
            for batch in reader.batches(page, generation):
                for row in batch.column("_kafka").to_pylist():
                    found.setdefault(f"{row['topic']}/{row['partition']}", []).append(row["offset"])
    return found


def test_rows_are_shown_as_soon_as_they_are_appended(host: Host) -> None:
    writer, reader = host.writer(), host.reader()
    writer.took_over(owner(1), IDENTITY, {P0: 10, P1: 0})
    assert shown(reader) == {}
    assert [list(page.state.end) for page in reader.pages()] == [[10, 0]]

    writer.append(1, decoded({P0: (10, 13), P1: (0, 2)}))
    assert shown(reader) == {"orders/0": [10, 11, 12], "orders/1": [0, 1]}
    writer.append(1, decoded({P0: (13, 14)}))
    writer.append(2, decoded({P1: (2, 3)}))
    assert shown(reader) == {"orders/0": [10, 11, 12, 13], "orders/1": [0, 1, 2]}
    assert shown(host.reader()) == shown(reader)
    assert [list(page.state.end) for page in reader.pages()] == [[14, 3]]


def test_a_committed_generation_stays_for_one_more_commit(host: Host) -> None:
    writer, reader = host.writer(), host.reader()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    for generation in range(1, 4):
        writer.append(generation, decoded({P0: (generation * 10 - 10, generation * 10)}))
    writer.committed(1, snapshot_id=71)
    (page,) = reader.pages()
    assert (list(page.state.base), page.state.snapshot_id) == ([0], 71)
    writer.committed(2, snapshot_id=72)
    (page,) = reader.pages()
    assert (list(page.state.base), page.state.generations) == ([10], (2, 3))
    assert len([name for name in host.files() if name.startswith("seg-")]) == 2


def test_a_reader_that_comes_too_late_for_a_segment_is_told(host: Host) -> None:
    writer, reader = host.writer(), host.reader()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    for generation in range(1, 4):
        writer.append(generation, decoded({P0: (generation * 10 - 10, generation * 10)}))
    (late,) = reader.pages()
    kept = reader.batches(late, 2)
    writer.committed(3, snapshot_id=73)
    with pytest.raises(EvictedError):
        reader.batches(late, 1)
    assert kept[0].column("id").to_pylist() == list(range(10, 20))


def test_only_this_user_can_read_hot_rows(host: Host) -> None:
    writer = host.writer()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    writer.append(1, decoded({P0: (0, 5)}))
    for path in host.roots[0].rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_directory_that_others_may_enter_is_neither_written_nor_read(host: Host) -> None:
    host.roots[0].mkdir(mode=0o777)
    host.roots[0].chmod(0o777)
    writer = host.writer()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    assert not is_private(host.roots[0])
    assert not list(host.roots[0].iterdir())
    assert "disk" in host.troubles[0]
    assert len(host.reader().pages()) == 1


def test_a_clean_end_leaves_no_rows_behind(host: Host) -> None:
    writer = host.writer()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    writer.append(1, decoded({P0: (0, 5)}))
    writer.close()
    assert host.files() == []
    assert host.reader().pages() == []
    assert not list(host.roots[0].iterdir())


def test_dead_workers_pages_go_with_their_successor_and_living_ones_stay(host: Host) -> None:
    dead, other, alive = host.writer(), host.writer(), host.writer()
    dead.took_over(owner(1), IDENTITY, {P0: 0})
    dead.append(1, decoded({P0: (0, 5)}))
    dead.abandon()
    assert shown(host.reader()) == {"orders/0": [0, 1, 2, 3, 4]}
    other.took_over(owner(2, 1, 2), IDENTITY, {P1: 0})
    assert shown(host.reader()) == {"orders/0": [0, 1, 2, 3, 4]}
    alive.took_over(owner(3), IDENTITY, {P0: 0})
    assert {page.head.owner.epoch for page in host.reader().pages()} == {2, 3}
    host.writer().took_over(owner(4), IDENTITY, {P0: 0, P1: 0})
    assert {page.head.owner.epoch for page in host.reader().pages()} == {2, 3, 4}


def test_half_a_directory_of_a_dead_worker_goes_too(host: Host) -> None:
    host.writer().took_over(owner(1), IDENTITY, {P0: 0})
    half = host.roots[0] / TABLE_UUID / "half"
    half.mkdir(mode=0o700)
    (half / "state").write_bytes(b"nonsense")
    assert len(host.reader().pages()) == 1
    host.writer().took_over(owner(2), IDENTITY, {P0: 0})
    assert not half.exists()


def test_where_memory_is_full_rows_go_to_the_next_directory(host: Host, monkeypatch) -> None:
    reserve = os.posix_fallocate

    def full(descriptor: int, start: int, size: int) -> None:
        if size >= MIB and "/memory/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        reserve(descriptor, start, size)

    writer = host.writer()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    monkeypatch.setattr(os, "posix_fallocate", full)
    writer.append(1, decoded({P0: (0, 5)}))
    writer.append(1, decoded({P0: (5, 6)}))
    assert shown(host.reader()) == {"orders/0": [0, 1, 2, 3, 4, 5]}
    assert len(host.troubles) == 1
    writer.close()
    assert host.files() == []


def test_where_nothing_takes_rows_the_page_ends_and_nobody_is_stopped(
    host: Host, monkeypatch
) -> None:
    writer, reader = host.writer(), host.reader()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    writer.append(1, decoded({P0: (0, 5)}))

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    writer.append(2, decoded({P0: (5, 9)}))
    writer.append(2, decoded({P0: (9, 12)}))
    writer.committed(1, snapshot_id=71)
    (page,) = reader.pages()
    assert (page.state.is_ended, list(page.state.end)) == (True, [5])
    assert shown(reader) == {"orders/0": [0, 1, 2, 3, 4]}
    assert "hot reads ended" in host.troubles[-1]
    assert not writer.is_full


def test_space_is_reserved_where_the_system_has_no_call_for_it(host: Host, monkeypatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    writer = host.writer()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    writer.append(1, decoded({P0: (0, 5)}))
    assert shown(host.reader()) == {"orders/0": [0, 1, 2, 3, 4]}
    for path in host.roots[0].rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            assert path.stat().st_blocks * 512 >= path.stat().st_size > 0, path


def test_small_batches_are_joined_and_none_is_lost_or_moved(host: Host) -> None:
    writer, reader = host.writer(), host.reader()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    for start in range(0, 500, 5):
        writer.append(1, decoded({P0: (start, start + 5)}))
        if start % 35 == 0:
            assert shown(reader) == {"orders/0": list(range(start + 5))}
    (page,) = reader.pages()
    assert len(reader.batches(page, 1)) < 40
    assert shown(host.reader()) == {"orders/0": list(range(500))}


def test_rows_of_another_shape_begin_another_segment(host: Host) -> None:
    writer, reader = host.writer(), host.reader()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    writer.append(1, decoded({P0: (0, 2)}))
    writer.append(1, decoded({P0: (2, 4)}, extra={"more": pa.array(["a", "b"])}))
    (page,) = reader.pages()
    first, second = reader.batches(page, 1)
    assert ("more" in first.schema.names, "more" in second.schema.names) == (False, True)


def test_uncommitted_rows_have_a_limit_and_committed_ones_make_room(host: Host) -> None:
    writer = host.writer(byte_count_max=2 * MIB)
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    writer.append(1, decoded({P0: (0, 10)}))
    assert not writer.is_full
    writer.append(2, decoded({P0: (10, 20)}))
    assert writer.is_full
    writer.committed(1, snapshot_id=71)
    assert not writer.is_full
    writer.append(3, decoded({P0: (20, 30)}))
    (page,) = host.reader().pages()
    assert page.state.generations == (2, 3)


def test_batches_in_flight_are_counted_so_that_the_limit_holds(host: Host) -> None:
    limit, in_flight_max, count = 8 * MIB, 6, 5_000
    writer = host.writer(byte_count_max=limit)
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    assert writer.has_room(0, 100 * limit)  # one poll is always let in, or nothing would go on
    rows = replace(decoded({P0: (0, count)}), byte_count=100_000)
    assert rows.rows.nbytes > 2 * rows.byte_count
    waiting, generation, offset, polled_max, sizes = 0, 1, 0, 0, []
    for _ in range(200):
        has_room = not writer.is_full and writer.has_room(
            waiting * rows.byte_count, rows.byte_count
        )
        if has_room and waiting < in_flight_max:
            waiting += 1
            polled_max = max(polled_max, waiting)
            continue
        if waiting:
            batch = decoded({P0: (offset, offset + count)})
            writer.append(generation, replace(batch, byte_count=rows.byte_count))
            offset, waiting = offset + count, waiting - 1
        else:
            writer.committed(generation, snapshot_id=generation)
            generation += 1
        segments = [p for p in host.roots[0].rglob("*") if p.is_file() and p.stat().st_size >= MIB]
        sizes.append(sum(path.stat().st_size for path in segments))
    assert max(sizes) <= limit
    assert max(sizes) > limit // 2
    assert polled_max == in_flight_max
    assert generation > 2


KILLED_WRITER = """
import sys
from pathlib import Path
from k2i_core.clock import RandomIds
from k2i_core.hot.writer import HotWriter
from tests.fakes.hot_rows import IDENTITY, P0, TABLE_UUID, decoded, owner
writer = HotWriter([Path(sys.argv[1])], TABLE_UUID, RandomIds().token, byte_count_max=1 << 26,
                   report=print)
writer.took_over(owner(1), IDENTITY, {P0: 0})
batch = decoded({P0: (0, 50)})
at = 0
while True:
    for generation in range(1, 10**9):
        for _ in range(3):
            writer.append(generation, decoded({P0: (at, at + 50)}))
            at += 50
        if generation > 2:
            writer.committed(generation - 2, generation)
"""


def test_a_page_is_whole_at_every_moment_also_after_a_kill(host: Host) -> None:
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(host.roots[0])])
        reader, look_count, last_end = host.reader(), 0, 0
        deadline = time.monotonic() + 20
        try:
            while look_count < 300 and time.monotonic() < deadline:
                look_count += check_once(reader, last_end)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert look_count == 300
        assert check_once(host.reader(), 0)
        host.writer().took_over(owner(2), IDENTITY, {P0: 0})


ENDING_READERS = """
import os, sys
from pathlib import Path
import pyarrow as pa
import pyarrow.dataset as ds
from k2i_core.hot.reader import HotReader
from tests.fakes.hot_rows import TABLE_UUID

for _ in range(25):
    reader_pid = os.fork()
    if not reader_pid:
        break
    _, status = os.waitpid(reader_pid, 0)
    if status:
        sys.exit(f"a reader ended with {os.waitstatus_to_exitcode(status)}")
else:
    sys.exit()

reader = HotReader([Path(sys.argv[1])], TABLE_UUID)
(page,) = reader.pages()
batches = [rows for number in page.state.generations for rows in reader.batches(page, number)]
table = pa.Table.from_batches(batches)
scan = ds.dataset(table).scanner(filter=ds.field("id") > 5, batch_size=1_000).to_reader()
scan.read_next_batch()
del reader, page, batches, table, scan
"""


def test_a_reader_may_end_while_threads_of_arrow_let_go_of_rows(host: Host) -> None:
    writer = host.writer()
    writer.took_over(owner(1), IDENTITY, {P0: 0})
    for number in range(60):
        writer.append(number + 1, decoded({P0: (5_000 * number, 5_000 * (number + 1))}))

    done = subprocess.run(
        [sys.executable, "-c", ENDING_READERS, str(host.roots[0])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def check_once(reader: HotReader, last_end: int) -> bool:
    pages = [page for page in reader.pages() if page.head.owner.epoch == 1]
    if not pages:
        return False
    (page,) = pages
    try:
        offsets = [
            offset
            for generation in page.state.generations
            for batch in reader.batches(page, generation)
            for offset in batch.column("id").to_pylist()
        ]
    except EvictedError:
        return False
    assert offsets == list(range(int(page.state.base[0]), int(page.state.end[0])))
    assert int(page.state.end[0]) >= last_end
    return True
