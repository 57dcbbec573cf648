"""Goal: durations, sizes, counts and schedules mean what people write, and nothing else passes.

Method: tables of texts; the round trip over all values is a property test.
"""

import pytest

from k2i_core.config.settings import parse_cron
from k2i_core.config.units import (
    bounded_number,
    duration_text,
    parse_count,
    parse_duration,
    parse_number,
    parse_size,
    size_text,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("7d", 604_800.0),
        (" 2 s ", 2.0),
        ("0.1s", 0.1),
    ],
)
def test_a_duration_is_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", 30, "s", "-1s", "1 s s", "1e3s", "1w", "1M", True, []])
def test_anything_else_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "byte_count"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("10B", 10),
        ("64KB", 64_000),
        ("64KiB", 65_536),
        ("128MiB", 134_217_728),
        ("1.5 GiB", 1_610_612_736),
        ("2TB", 2_000_000_000_000),
    ],
)
def test_a_size_is_bytes(text, byte_count):
    assert parse_size(text) == byte_count


@pytest.mark.parametrize("text", ["", "MiB", "-1", -1, "1.5B", "1.5", "1mb", "1Mb", "1kB", True])
def test_anything_else_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_a_count_may_stand_in_quotes_with_groups_of_three():
    assert [parse_count(text) for text in (7, "7", "1_000_000", " 12 ")] == [7, 7, 1_000_000, 12]
    for text in ("", "1.0", "1e3", "1_0", "-1", True, None, "seven"):
        with pytest.raises(ValueError, match="is not a whole number"):
            parse_count(text)


def test_a_number_may_stand_in_quotes_and_have_a_point():
    numbers = {7: 7.0, 0.5: 0.5, "0.01": 0.01, " 60 ": 60.0, ".5": 0.5, "-1": -1.0, "1e-3": 0.001}
    assert {written: parse_number(written) for written in numbers} == numbers
    for text in ("", "1.", ".", "1%", "1,5", "nan", "inf", "1e", True, None, []):
        with pytest.raises(ValueError, match="is not a number"):
            parse_number(text)


def test_what_is_not_a_number_at_all_is_within_no_limits():
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is not from 0 to 1"):
            bounded_number(0, 1).parse(number)


def test_values_are_written_in_the_largest_unit_that_keeps_them_whole():
    assert [duration_text(s) for s in (30.0, 300.0, 604_800.0, 0.25, 1.5, 90.0, 0.0)] == [
        "30s",
        "5m",
        "7d",
        "250ms",
        "1500ms",
        "90s",
        "0ms",
    ]
    assert [size_text(b) for b in (2**20, 512 * 2**20, 2**30, 1000, 0)] == [
        "1MiB",
        "512MiB",
        "1GiB",
        "1000B",
        "0B",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "*/30 * * * *",
        "15 * * * *",
        "0 3 * * *",
        "0,15,30-40/5 0-23 1,31 jan-MAR,12 mon-fri",
        "0 0 1 1 0",
        "0  0 * * 7",
    ],
)
def test_a_schedule_passes_with_single_spaces(text):
    assert parse_cron(text) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "1, * * * *",
        "a * * * *",
        "-1 * * * *",
        "@daily",
        "* * * * someday",
    ],
)
def test_anything_else_is_no_schedule(text):
    with pytest.raises(ValueError, match="is not a schedule"):
        parse_cron(text)
