"""Goal: what is written of a value is read as the same value.

Method: generated durations, sizes, partition and sort fields.
"""

from hypothesis import given
from hypothesis import strategies as st

from k2i_core.config import PartitionField, SortField
from k2i_core.config.units import duration_text, parse_duration, parse_size, size_text

COLUMNS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.integers(0, 10**12))
def test_a_size_is_read_as_it_was_written(byte_count):
    assert parse_size(size_text(byte_count)) == byte_count


@given(st.integers(0, 10**12))
def test_a_duration_in_milliseconds_is_read_as_it_was_written(ms):
    assert parse_duration(duration_text(ms / 1000)) == ms / 1000


@given(
    st.one_of(
        st.builds(
            PartitionField, st.sampled_from(["identity", "year", "day", "hour", "void"]), COLUMNS
        ),
        st.builds(
            PartitionField,
            st.sampled_from(["bucket", "truncate"]),
            COLUMNS,
            st.integers(1, 2**31 - 1),
        ),
    )
)
def test_a_partition_field_is_read_as_it_was_written(field):
    assert PartitionField.parse(str(field)) == field


@given(st.builds(SortField, COLUMNS, st.booleans(), st.booleans()))
def test_a_sort_field_is_read_as_it_was_written(field):
    assert SortField.parse(str(field)) == field
