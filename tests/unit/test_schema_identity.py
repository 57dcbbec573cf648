"""Goal: a column is known under another name exactly where something says so.

Method: one table and one writer's field each, by alias, by number and by former name, at the top
and inside of lists and maps; and what cannot be told is named.
"""

from typing import Any

import pyarrow as pa
import pytest

from k2i_core.schema.changes import Identify, Incompatible, Rename, apply, diff
from k2i_core.schema.identity import Identity, identified, in_names_of, relabelled


def column(
    name: str, identity: str | None = None, *former: str, type_: pa.DataType | None = None
) -> "pa.Field[Any]":
    return identified(pa.field(name, type_ or pa.int64()), Identity(identity, former))


def around(kind: str, field: "pa.Field[Any]") -> pa.Schema:
    struct = pa.struct([field])
    types = {
        "top": None,
        "struct": struct,
        "list": pa.list_(pa.field("element", struct)),
        "map": pa.map_(pa.string(), struct),
    }
    type_ = types[kind]
    return pa.schema([field if type_ is None else pa.field("around", type_)])


PATHS = {
    "top": (),
    "struct": ("around",),
    "list": ("around", "element"),
    "map": ("around", "value"),
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize(
    ("table", "writer"),
    [
        (column("old"), column("new", None, "old")),
        (column("old", "3"), column("new", "3")),
        (column("old", None, "older"), column("new", None, "older")),
    ],
    ids=["alias", "number", "common former name"],
)
def test_a_column_is_renamed_once_and_never_back(
    kind: str, table: "pa.Field[Any]", writer: "pa.Field[Any]"
) -> None:
    before, rows = around(kind, table), around(kind, writer)
    found = diff(before, rows, by_identity=True)
    assert Rename((*PATHS[kind], "old"), "new") in found.changes
    after = apply(before, found)
    for schema in (rows, before):
        again = diff(after, schema, by_identity=True)
        assert not again.incompatibilities
        assert not [change for change in again.changes if not isinstance(change, Identify)]
    # Without identity the new name is another column; the old one is still known afterwards.
    assert not [c for c in diff(before, rows).changes if isinstance(c, Rename)]
    assert diff(after, around(kind, column("old"))).is_empty


@pytest.mark.parametrize("kind", PATHS)
def test_rows_get_the_tables_names_without_a_change(kind: str) -> None:
    table, writer = around(kind, column("new", None, "old")), around(kind, column("old"))
    names = in_names_of(table, writer, by_identity=False)
    assert names.equals(writer)
    values = {
        "top": [1, None],
        "struct": [{"old": 1}, None],
        "list": [[{"old": 1}, None], None],
        "map": [[("k", {"old": 1})], None],
    }[kind]
    for rows in (values, values[1:], []):
        batch = pa.RecordBatch.from_arrays([pa.array(rows, names.field(0).type)], schema=names)
        made = relabelled(batch, table)
        made.validate(full=True)
        assert made.schema.equals(table)
        assert repr(made.to_pylist()) == repr(batch.to_pylist()).replace("old", "new")
    assert in_names_of(table, table, by_identity=True) is table


def test_what_cannot_be_told_apart_is_named() -> None:
    table = pa.schema([column("a", "1"), column("b", "2", "old")])
    cases = {
        "b": (column("b", "1"), 'is field 1, as is column "a"'),
        "A": (column("A", "9"), 'differs only in letter case from "a"'),
        "old": (column("old", "9"), 'was the name of column "b", which records of older schemas'),
    }
    for name, (field, reason) in cases.items():
        # With the column itself beside it, so that the name can be no other's.
        beside = [column("b", "2")] if name == "old" else []
        found = diff(table, pa.schema([*beside, field]), by_identity=True).incompatibilities
        assert [type(each) for each in found] == [Incompatible]
        assert reason in found[0].reason


def test_a_column_learns_its_number_and_its_former_names_but_no_other_columns_name() -> None:
    table = pa.schema([column("a"), column("b")])
    writer = pa.schema([column("a", "1", "x", "b"), column("b", "2")])
    found = diff(table, writer, by_identity=True).changes
    assert found == (
        Identify(("a",), Identity("1", ("x",))),
        Identify(("b",), Identity("2")),
    )
    assert str(found[0]) == "note that a is field 1 and was x"
