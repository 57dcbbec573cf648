"""Locations are compared by meaning.

Goal: a file of the table is never taken for a stranger, nor a stranger for a file of the table.
"""

import pytest

from k2i_core.iceberg.locations import is_inside, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://lake/a/b.parquet", "s3a://lake/a/b.parquet"),
        ("s3://lake/a/b.parquet", "s3n://lake/a/b.parquet"),
        ("file:///data/a.parquet", "/data/a.parquet"),
        ("file:/data/a.parquet", "/data/a.parquet"),
        ("file:///data//a.parquet", "/data/a.parquet"),
        ("abfs://c/a", "abfss://c/a"),
    ],
)
def test_spellings_of_one_file_are_equal(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://lake/a", "s3://other/a"),
        ("s3://lake/a", "gs://lake/a"),
        ("s3://lake/a", "s3://lake/A"),
        ("/data/a", "/data/b"),
    ],
)
def test_different_files_differ(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    ("location", "inside"),
    [
        ("s3://lake/t/data/a.parquet", True),
        ("s3a://lake/t/data/a.parquet", True),
        ("s3://lake/t", False),
        ("s3://lake/t2/data/a.parquet", False),
        ("s3://lake/t/../u/a.parquet", False),
        ("s3://lake/t/%2e%2e/u/a.parquet", False),
        ("/lake/t/data/a.parquet", False),
    ],
)
def test_inside_means_below_the_folder(location: str, inside: bool) -> None:
    assert is_inside(location, ["s3://lake/t/"]) is inside


def test_several_folders_count() -> None:
    assert is_inside("/b/x", ["/a", "file:///b"])
    assert not is_inside("/c/x", ["/a", "file:///b"])
    assert not is_inside("/c/x", [])
