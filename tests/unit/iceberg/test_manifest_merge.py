"""When manifests are merged, and which.

Goal: a table has few manifests whatever it is fed, and no commit rewrites much.
Method: a model of a table that only appends, a thousand commits long.
"""

import random

import pytest
from pyiceberg.manifest import ManifestContent, ManifestFile

from k2i_core.iceberg.manifests import (
    FULL_BYTES,
    FULL_FILE_COUNT,
    MERGE_COUNT,
    MERGED_FILE_COUNT_MAX,
    merge_candidates,
)

SPEC = 0
HEADER_BYTES = 4_000
ENTRY_BYTES = 400


def manifest(
    number: int,
    file_count: int = 1,
    *,
    byte_count: int | None = None,
    spec_id: int = SPEC,
    content: ManifestContent = ManifestContent.DATA,
) -> ManifestFile:
    return ManifestFile.from_args(
        manifest_path=f"m{number}",
        manifest_length=byte_count or HEADER_BYTES + ENTRY_BYTES * file_count,
        partition_spec_id=spec_id,
        content=content,
        added_files_count=file_count,
        existing_files_count=0,
        deleted_files_count=0,
    )


def files_in(manifests: list[ManifestFile]) -> int:
    return sum(m.added_files_count or 0 for m in manifests)


def test_a_few_small_manifests_are_left_alone() -> None:
    assert merge_candidates([manifest(n) for n in range(MERGE_COUNT - 1)], SPEC) == []


def test_many_small_manifests_become_one() -> None:
    small = [manifest(n) for n in range(MERGE_COUNT)]

    assert set(merge_candidates(small, SPEC)) == set(small)


@pytest.mark.parametrize(
    "other",
    [
        {"spec_id": SPEC + 1},
        {"content": ManifestContent.DELETES},
        {"file_count": FULL_FILE_COUNT},
        {"byte_count": FULL_BYTES},
    ],
)
def test_manifests_that_must_stay_are_never_taken(other: dict[str, object]) -> None:
    small = [manifest(n) for n in range(MERGE_COUNT)]
    kept = [manifest(1000 + n, **{"file_count": 1, **other}) for n in range(3 * MERGE_COUNT)]

    assert merge_candidates(kept, SPEC) == []
    assert set(merge_candidates([*kept, *small], SPEC)) == set(small)


@pytest.mark.parametrize("files_per_commit", [1, 4, 40, 200, 511, 700])
def test_an_append_only_table_has_few_manifests_and_cheap_commits(files_per_commit: int) -> None:
    random_source = random.Random(files_per_commit)
    manifests: list[ManifestFile] = []
    rewritten = total = 0
    for number in range(1_000):
        merging = merge_candidates(manifests, SPEC)
        moved = files_in(merging)
        assert len(merging) != 1
        assert moved <= MERGED_FILE_COUNT_MAX
        rewritten += moved
        manifests = [m for m in manifests if m not in merging]
        if merging:
            manifests.append(manifest(100_000 + number, moved))
        file_count = random_source.randint(1, files_per_commit)
        total += file_count
        manifests.append(manifest(number, file_count))

        assert files_in(manifests) == total
        assert len(manifests) <= 2 * MERGE_COUNT + 1 + total / (FULL_FILE_COUNT / 2)
    assert rewritten <= 3 * total
