"""Properties of the transaction log's lines.

Goal: after any damage only true entries are believed, and only a beginning of them. Method: encode
any entries, cut or damage the bytes anywhere, decode, compare.
"""

from hypothesis import given
from hypothesis import strategies as st

from k2i_core.ledger import Epoch, Owner, Share
from k2i_core.txlog import entries

names = st.text(max_size=12)
numbers = st.integers(0, 2**63 - 1)
owners = st.builds(
    lambda epoch, workers, seed: Owner(Epoch(epoch), Share(seed % workers, workers)),
    numbers,
    st.integers(1, 64),
    numbers,
)
any_entry = st.one_of(
    st.builds(entries.took_over, owners),
    st.builds(entries.file, names, st.integers(1, 3), names),
    st.builds(entries.attempted, names, numbers),
    st.builds(entries.landed, names, st.integers(1, 3)),
)
logs = st.lists(any_entry, max_size=12)


def encoded(log: list[entries.Entry]) -> bytes:
    return b"".join(entries.encode(entry) for entry in log)


@given(logs)
def test_entries_are_read_back_as_they_were_written(log):
    assert entries.decode(encoded(log)) == log


@given(logs, st.data())
def test_any_cut_leaves_a_beginning(log, data):
    content = encoded(log)
    cut = data.draw(st.integers(0, len(content)))

    read = entries.decode(content[:cut])

    whole = sum(1 for n in range(1, len(log) + 1) if len(encoded(log[:n])) <= cut)
    assert read == log[:whole]


@given(logs.filter(bool), st.data())
def test_a_damaged_byte_ends_what_is_believed(log, data):
    content = bytearray(encoded(log))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    read = entries.decode(bytes(content))

    untouched = sum(1 for n in range(1, len(log) + 1) if len(encoded(log[:n])) <= place)
    assert read[:untouched] == log[:untouched]
    assert len(read) <= untouched + 1
    assert read[untouched:] in ([], [log[untouched]])


@given(logs)
def test_a_summary_is_what_a_dict_would_remember(log):
    paths: dict[tuple[str, int], list[str]] = {}
    owner = None
    for kind, *values in log:
        if kind == "took-over":
            owner = Owner(Epoch(values[0]), Share(values[1], values[2]))
        elif kind == "file":
            paths.setdefault((values[0], values[1]), []).append(values[2])
        elif kind == "landed":
            paths.pop((values[0], values[1]), None)

    summary = entries.summarize("log", log)

    assert summary.owner == owner
    for table in {table for table, _ in paths} | set(summary.unlanded_paths):
        expected = [path for (t, _), listed in paths.items() if t == table for path in listed]
        assert sorted(summary.unlanded_paths.get(table, ())) == sorted(expected)
