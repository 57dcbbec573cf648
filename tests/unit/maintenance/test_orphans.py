"""What of a listing is an orphan, and what is not.

Goal: only old files that bear our name and this table's UUID, and that nothing reaches, are judged
orphans. Method: one listing, one file of each kind.
"""

import pytest

from k2i_core.iceberg.listing import ListedFile
from k2i_core.maintenance import orphans
from k2i_core.maintenance.orphans import Found, OwnNames, judge

UUID = "143ac10f-0000-4000-8000-000000000000"
OTHER = "999ac10f-0000-4000-8000-000000000000"
TABLE = "s3://lake/sales/orders"
NAMES = OwnNames(UUID, f"{TABLE}/metadata")
DATA = f"{TABLE}/data/day=2026-01-01"


@pytest.mark.parametrize(
    ("path", "is_own"),
    [
        (f"{DATA}/143ac10f-7-0-3-1.parquet", True),
        (f"{TABLE}/data/143ac10f-compaction-ab-1.parquet", True),
        (f"s3a://lake/sales/orders/metadata/123-{UUID}-m0.avro", True),
        (f"{TABLE}/metadata/snap-123-0-{UUID}.avro", True),
        (f"{DATA}/999ac10f-7-0-3-1.parquet", False),
        (f"{DATA}/143ac10f.parquet", False),
        (f"{DATA}/143ac10f-7-0-3-1.orc", False),
        (f"{DATA}/00000-0-{UUID}.parquet", False),
        (f"{TABLE}/metadata/123-{OTHER}-m0.avro", False),
        (f"{TABLE}/metadata/{UUID}-m0.avro", False),
        (f"{TABLE}/metadata/143ac10f-7-0-3-1.parquet", False),
        (f"{TABLE}/metadata/version-hint.text", False),
        (f"{TABLE}/metadata/00001-{UUID}.metadata.json", False),
        (f"{TABLE}/_SUCCESS", False),
    ],
)
def test_our_names_bear_the_tables_uuid(path: str, is_own: bool) -> None:
    assert NAMES.is_own(path) == is_own


def test_table_metadata_is_known_by_its_name_and_judged_by_its_content() -> None:
    assert NAMES.is_table_metadata(f"{TABLE}/metadata/00001-{OTHER}.metadata.json")
    assert NAMES.is_table_metadata(f"{TABLE}/metadata/00001-{OTHER}.gz.metadata.json")
    assert not NAMES.is_table_metadata(f"{TABLE}/data/00001-{OTHER}.metadata.json")
    assert not NAMES.is_table_metadata(f"{TABLE}/metadata/v1.metadata.json")


def judged(
    *files: ListedFile, live: set[str] = frozenset(), needed: set[str] = frozenset()
) -> Found:
    found = Found()
    judge(
        files,
        live_metadata=live,
        reachable=lambda paths: set(paths) & needed,
        is_own=NAMES.is_own,
        older_than_ms=1_000,
        found=found,
    )
    return found


OWN = f"{DATA}/143ac10f-7-0-3-1.parquet"


def test_an_old_file_of_ours_that_nothing_reaches_is_an_orphan() -> None:
    assert judged(ListedFile(OWN, 5, 999)).orphans == {OWN: 5}


def test_a_young_file_is_none() -> None:
    found = judged(ListedFile(OWN, 5, 1_000))

    assert (found.orphans, found.young_count) == ({}, 1)


def test_a_file_that_a_snapshot_reaches_is_none() -> None:
    assert judged(ListedFile(OWN, 5, 1), needed={OWN}).orphans == {}


def test_metadata_that_a_load_names_is_none_in_any_spelling() -> None:
    path = f"s3a://lake/sales/orders/metadata/snap-123-0-{UUID}.avro"

    assert judged(ListedFile(path, 5, 1), live={path.replace("s3a", "s3")}).orphans == {}


def test_a_strangers_file_is_told_and_stays() -> None:
    found = judged(ListedFile(f"{TABLE}/_SUCCESS", 5, 1))

    assert (found.orphans, found.foreign_count, found.foreign_bytes) == ({}, 1, 5)
    assert found.examples == [f"{TABLE}/_SUCCESS"]


def test_one_run_takes_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "ORPHANS_MAX", 2)
    files = [ListedFile(f"{DATA}/143ac10f-7-0-3-{n}.parquet", 5, 1) for n in range(3)]

    found = judged(*files)

    assert (len(found.orphans), found.is_cut) == (2, True)
