"""Dead-letter rows at or above a checkpoint are found, all of them and no others.

Goal: a record is never both a row and a dead letter, whatever crashed between the two commits.
Method: a real dead-letter table, written and committed by the real writer and gateway.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import PyArrowFile
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table.snapshots import Snapshot

from k2i_core.clock import RandomIds, SystemClock
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.gateway import SnapshotChange
from k2i_core.iceberg.pyiceberg_gateway import PyIcebergGateway
from k2i_core.iceberg.tables import create_or_adopt_dead_letters
from k2i_core.iceberg.verdicts import Verdicts, read_verdicts
from k2i_core.iceberg.write_targets import write_target
from k2i_core.offsets import TopicPartition
from k2i_core.parquet.writer import RollingWriter
from k2i_core.records import DEAD_LETTER_SCHEMA, DecidedOffsets, TableState

DEAD = "sales.orders_dead_letters"
ORDERS, PAYMENTS = "sales.orders", "sales.payments"
P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


def sets(
    found: Mapping[str, DecidedOffsets],
) -> dict[str, dict[TopicPartition, frozenset[int]]]:
    assert all(np.all(np.diff(o) > 0) for decided in found.values() for o in decided.values())
    return {
        table: {tp: frozenset(offsets.tolist()) for tp, offsets in decided.items()}
        for table, decided in found.items()
    }


class DeadLetters:
    def __init__(self, folder: Path) -> None:
        self.properties = {
            "type": "sql",
            "uri": f"sqlite:///{folder}/catalog.db",
            "warehouse": f"{folder}/warehouse",
        }
        self.catalog = self.open()
        create_or_adopt_dead_letters(self.catalog, DEAD)
        self.gateway = PyIcebergGateway(self.open, DEAD)
        self.commit_count = 0

    def open(self) -> Catalog:
        return open_catalog("k2i", self.properties)

    def commit(self, offsets: Mapping[TopicPartition, list[int]], target: str = ORDERS) -> str:
        self.commit_count += 1
        letters = [
            {
                "target_table": target,
                "stage": "decode",
                "error_class": "invalid_json",
                "fingerprint": "f",
                "message": "m",
                "first_seen": 0,
                "value": b"{",
                "_kafka": {"topic": tp.topic, "partition": tp.kafka_partition, "offset": offset},
            }
            for tp, values in offsets.items()
            for offset in values
        ]
        table = self.catalog.load_table(DEAD)
        target_of_rows = write_target(table, f"1-0-{self.commit_count}")
        writer = RollingWriter(target_of_rows, SystemClock(), lambda _: None)
        batch = pa.RecordBatch.from_pylist(letters, schema=DEAD_LETTER_SCHEMA)
        writer.write(batch.cast(target_of_rows.schema))
        files = writer.close()
        view = self.gateway.load()
        now = max(SystemClock().now_ms(), view.last_updated_ms + 1)
        change = SnapshotChange(RandomIds().snapshot_id(), now, files, {}, {})
        self.gateway.send(self.gateway.prepare(view, change))
        return files[0].path

    def verdicts(
        self,
        from_offsets: Mapping[TopicPartition, int],
        since: Mapping[str, int] | None = None,
        target: str = ORDERS,
    ) -> Mapping[TopicPartition, frozenset[int]]:
        state = TableState(None, self.gateway.load())
        found = Verdicts()({target: from_offsets}, from_offsets, since or {}, state)
        return sets(found).get(target, {})


@pytest.fixture
def dead_letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path)


def test_an_empty_table_decides_nothing(dead_letters: DeadLetters) -> None:
    assert dead_letters.verdicts({P0: 0}) == {}


def test_offsets_at_or_above_the_checkpoint_are_decided(dead_letters: DeadLetters) -> None:
    dead_letters.commit({P0: [98, 99, 100, 150], P1: [5, 7]})
    dead_letters.commit({P0: [201]})

    assert dead_letters.verdicts({P0: 100, P1: 6}) == {
        P0: frozenset({100, 150, 201}),
        P1: frozenset({7}),
    }


def test_each_partition_is_judged_by_its_own_checkpoint(dead_letters: DeadLetters) -> None:
    dead_letters.commit({P0: [10], P1: [10]})

    assert dead_letters.verdicts({P0: 11, P1: 0}) == {P1: frozenset({10})}
    assert dead_letters.verdicts({P0: 0}) == {P0: frozenset({10})}
    assert dead_letters.verdicts({}) == {}


def test_other_targets_and_topics_do_not_count(dead_letters: DeadLetters) -> None:
    dead_letters.commit({P0: [10]}, target=PAYMENTS)
    dead_letters.commit({TopicPartition("refunds", 0): [10]})

    assert dead_letters.verdicts({P0: 0}) == {}
    assert dead_letters.verdicts({P0: 0}, target=PAYMENTS) == {P0: frozenset({10})}


def test_of_several_tables_each_has_its_own_however_far_it_is(dead_letters: DeadLetters) -> None:
    dead_letters.commit({P0: [10, 12]})
    dead_letters.commit({P0: [11], P1: [3]}, target=PAYMENTS)
    state = TableState(None, dead_letters.gateway.load())
    found = Verdicts()({ORDERS: {P0: 50, P1: 0}, PAYMENTS: {}}, {P0: 11, P1: 0}, {}, state)

    assert sets(found) == {
        ORDERS: {P0: frozenset({12})},
        PAYMENTS: {P0: frozenset({11}), P1: frozenset({3})},
    }


def test_rows_of_a_deleted_topic_do_not_count(dead_letters: DeadLetters) -> None:
    dead_letters.commit({P0: [10, 11]})
    dead_letters.commit({P0: [11, 12]})

    assert dead_letters.verdicts({P0: 0}, {"orders": 2}) == {P0: frozenset({11, 12})}
    assert dead_letters.verdicts({P0: 0}, {"refunds": 2}) == {P0: frozenset({10, 11, 12})}


def test_old_files_are_not_opened(
    dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = dead_letters.commit({P0: [10, 11]})
    elsewhere = dead_letters.commit({TopicPartition("orders", 7): [500]})
    new = dead_letters.commit({P0: [99, 101]})
    table = dead_letters.catalog.load_table(DEAD)
    opened: list[str] = []
    real_open = PyArrowFile.open

    def record(self: PyArrowFile, seekable: bool = True) -> object:
        opened.append(self.location)
        return real_open(self, seekable)

    monkeypatch.setattr(PyArrowFile, "open", record)

    found = read_verdicts(table, [ORDERS], {P0: 100}, {})

    assert sets(found) == {ORDERS: {P0: frozenset({101})}}
    assert new in opened
    assert old not in opened
    assert elsewhere not in opened


def test_verdicts_survive_the_merging_of_manifests(dead_letters: DeadLetters) -> None:
    for offset in range(40):
        dead_letters.commit({P0: [offset]})

    assert dead_letters.verdicts({P0: 3}, {"orders": 11}) == {P0: frozenset(range(10, 40))}


def test_a_file_that_is_gone_is_no_verdict(dead_letters: DeadLetters) -> None:
    path = dead_letters.commit({P0: [10]})
    Path(path.removeprefix("file://")).unlink()

    with pytest.raises(UnavailableError, match="verdicts"):
        dead_letters.verdicts({P0: 0})


def test_only_the_given_load_counts(dead_letters: DeadLetters) -> None:
    dead_letters.commit({P0: [10]})
    state = TableState(None, dead_letters.gateway.load())
    dead_letters.commit({P0: [11]})

    found = Verdicts()({ORDERS: {}}, {P0: 0}, {}, state)
    assert sets(found) == {ORDERS: {P0: frozenset({10})}}


def test_rows_that_are_only_marked_as_deleted_are_refused(
    dead_letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_letters.commit({P0: [10]})
    table = dead_letters.catalog.load_table(DEAD)
    head = table.current_snapshot()
    assert head is not None
    manifests = head.manifests(table.io)
    monkeypatch.setattr(ManifestFile, "content", ManifestContent.DELETES)
    monkeypatch.setattr(Snapshot, "manifests", lambda _self, _io: manifests)

    with pytest.raises(ConfigError, match="delete files"):
        read_verdicts(table, [ORDERS], {P0: 0}, {})
