"""Each step of a transform does what the pipeline file says, to each record alone.

Goal: rows, filtered and failed records are exactly those that a reader of the file expects; what
cannot be is refused before the first record. Method: small batches through chains as a file
declares them, against rows written by hand.
"""

import datetime as dt
import uuid
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2i_core.errors import ConfigError
from tests.unit.transform.chains import apply, transforms

ORDERS = pa.schema(
    [
        pa.field("order_id", pa.int64(), nullable=False),
        pa.field("amount", pa.string()),
        pa.field("quantity", pa.int64()),
        pa.field(
            "customer",
            pa.struct([("id", pa.int64()), ("at", pa.struct([("city", pa.string())]))]),
        ),
    ]
)


def orders(*rows: dict) -> pa.RecordBatch:
    full = [dict.fromkeys(ORDERS.names) | {"order_id": n} for n in range(len(rows))]
    return pa.RecordBatch.from_pylist(
        [one | row for one, row in zip(full, rows, strict=True)], schema=ORDERS
    )


def test_columns_are_renamed_dropped_kept_and_flattened():
    made = transforms(
        {"rename": {"order_id": "id"}}, {"drop": ["quantity"]}, {"flatten": ["customer"]}
    )
    rows = orders({"customer": {"id": 7, "at": {"city": "Ulm"}}}, {"customer": None})
    done = apply(made, rows)
    assert done.rows.to_pylist() == [
        {"id": 0, "amount": None, "customer_id": 7, "customer_at_city": "Ulm"},
        {"id": 1, "amount": None, "customer_id": None, "customer_at_city": None},
    ]
    assert not done.rows.schema.field("id").nullable
    kept = transforms({"keep": ["amount", "order_id"]})
    assert kept.derive(ORDERS).names == ["order_id", "amount"]


def test_constants_have_the_type_that_they_are_written_with():
    made = transforms({"constant": {"source": "eu", "version": 3, "rate": 0.5, "is_test": False}})
    done = apply(made, orders({}, {}))
    assert done.rows.select(["source", "version", "rate", "is_test"]).to_pylist() == 2 * [
        {"source": "eu", "version": 3, "rate": 0.5, "is_test": False}
    ]
    assert done.rows.schema.field("version").type == pa.int64()


def test_parts_of_the_record_become_columns_of_the_records_that_are_left():
    made = transforms(
        {"filter": "quantity > 1"}, {"kafka": {"topic": "source", "offset": "at", "key": "key"}}
    )
    done = apply(made, orders({"quantity": 1}, {"quantity": 2}))
    assert done.rows.select(["source", "at", "key"]).to_pylist() == [
        {"source": "orders", "at": 101, "key": b"k"}
    ]


def test_a_filter_keeps_what_is_true_and_neither_false_nor_null():
    done = apply(
        transforms({"filter": "quantity > 1"}),
        orders({"quantity": 1}, {"quantity": None}, {"quantity": 2}),
    )
    assert done.row_indices.to_pylist() == [2]
    assert done.failures == ()


def test_a_value_that_cannot_be_cast_fails_its_record_and_none_beside_it():
    made = transforms({"cast": {"amount": "decimal(12, 2)"}})
    done = apply(made, orders({"amount": "1.5"}, {"amount": "secret"}, {"amount": None}))
    assert done.rows.column("amount").to_pylist() == [Decimal("1.50"), None]
    assert done.row_indices.to_pylist() == [0, 2]
    (failure,) = done.failures
    assert (failure.index, failure.error_class) == (1, "cast_failed")
    assert failure.message == "transforms[0].cast: amount: cannot be cast to decimal(12,2)"


CASTS = [
    (pa.string(), "12", "int", 12),
    (pa.string(), "true", "boolean", True),
    (pa.string(), "2026-01-02", "date", dt.date(2026, 1, 2)),
    (pa.string(), "2026-01-02T03:04:05Z", "timestamp", dt.datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - without a zone
    (
        pa.string(),
        "2026-01-02 03:04:05+02",
        "timestamptz",
        dt.datetime(2026, 1, 2, 1, 4, 5, tzinfo=dt.UTC),
    ),
    (pa.string(), "ä", "binary", "ä".encode()),
    (pa.binary(), "ä".encode(), "string", "ä"),
    (pa.string(), str(uuid.UUID(int=5)), "uuid", uuid.UUID(int=5)),
    (pa.int64(), 12, "string", "12"),
    (pa.int64(), 12, "decimal(4, 1)", Decimal("12.0")),
    (pa.float64(), 1.25, "float", 1.25),
    (pa.decimal128(6, 3), Decimal("1.236"), "decimal(6, 2)", Decimal("1.24")),
]


@pytest.mark.parametrize(("source", "value", "type_", "expected"), CASTS)
def test_a_cast_gives_the_type_that_is_asked_for(source, value, type_, expected):
    rows = pa.RecordBatch.from_pylist([{"v": value}, {"v": None}], pa.schema([("v", source)]))
    done = apply(transforms({"cast": {"v": type_}}), rows)
    assert done.rows.column("v").to_pylist() == [expected, None]


def test_an_expression_adds_or_replaces_a_column():
    made = transforms(
        {"cast": {"amount": "decimal(12,2)"}},
        {"sql": {"total": "amount * quantity", "quantity": "coalesce(quantity, 1)"}},
    )
    done = apply(made, orders({"amount": "1.5", "quantity": 2}, {"amount": "3"}))
    assert done.rows.column("total").to_pylist() == [Decimal("3.00"), None]
    assert done.rows.column("quantity").to_pylist() == [2, 1]
    assert done.rows.schema.names == [*ORDERS.names, "total"]


FAILING = [
    ("quantity / (quantity - 1)", [1]),
    ("quantity // 0", [0, 1, 2]),
    ("CASE WHEN quantity <> 1 THEN 10 % (quantity - 1) END", []),
    ("quantity * 9223372036854775807", [2]),
    ("CAST(amount AS DATE)", [0]),
    ("error(amount)", [0, 1, 2]),
    ("ln(quantity - 1)", [0, 1]),
]


@pytest.mark.parametrize(("expression", "failed"), FAILING[:5] + FAILING[6:])
def test_a_record_for_which_an_expression_fails_is_alone(expression, failed):
    made = transforms({"sql": {"x": expression}})
    rows = orders({"quantity": 0, "amount": "secret"}, {"quantity": 1}, {"quantity": 3})
    done = apply(made, rows)
    assert [failure.index for failure in done.failures] == failed
    assert all("secret" not in failure.message for failure in done.failures)
    assert done.rows.num_rows + len(failed) == 3


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["1", "x", None]), min_size=1, max_size=9))
def test_a_verdict_does_not_depend_on_the_records_beside(amounts):
    made = transforms(
        {"cast": {"amount": "long"}},
        {"filter": "amount IS NOT NULL"},
        {"sql": {"half": "10 / (quantity - 2)"}},
    )
    rows = orders(*({"amount": amount, "quantity": n % 3} for n, amount in enumerate(amounts)))
    together = apply(made, rows)
    alone = [apply(made, rows.slice(n, 1)) for n in range(rows.num_rows)]
    assert together.rows.to_pylist() == [row for one in alone for row in one.rows.to_pylist()]
    assert [(f.index, f.message) for f in together.failures] == [
        (n, one.failures[0].message) for n, one in enumerate(alone) if one.failures
    ]


def test_a_column_that_records_get_later_flows_through():
    made = transforms({"drop": ["quantity"]}, {"constant": {"source": "eu"}})
    later = ORDERS.append(pa.field("note", pa.string()))
    assert made.derive(later).names == ["order_id", "amount", "customer", "note", "source"]


def test_a_later_column_of_a_name_that_a_step_makes_fails_the_records_that_have_it():
    made = transforms({"constant": {"source": "eu"}})
    later = ORDERS.append(pa.field("source", pa.string()))
    assert made.derive(later) == made.derive(ORDERS)
    rows = orders({}, {}).append_column("source", pa.array([None, "secret"], pa.string()))
    done = apply(made, rows)
    assert done.row_indices.to_pylist() == [0]
    assert done.failures[0].message == (
        "transforms: source: a step makes a column of this name, so the record's has no place"
    )


def test_jmespath_takes_text_out_of_json_text_and_fails_what_is_none():
    paths = {"city": "address.city", "skus": "items[].sku", "count": "length(items)"}
    made = transforms({"jmespath": {"amount": paths}}, {"cast": {"count": "int"}})
    whole = '{"address": {"city": "Ülm"}, "items": [{"sku": "a"}, {"sku": 2.5}]}'
    rows = orders(
        {"amount": whole},
        {"amount": "{secret"},
        {"amount": "{}"},
        {"amount": None},
        {"amount": "[]"},
    )
    done = apply(made, rows)
    assert done.row_indices.to_pylist() == [0, 3]
    assert done.rows.select(list(paths)).to_pylist() == [
        {"city": "Ülm", "skus": '["a",2.5]', "count": 2},
        {"city": None, "skus": None, "count": None},
    ]
    # Neither a text that is no JSON, nor the length of nothing.
    assert {failure.index: failure.message for failure in done.failures} == dict.fromkeys(
        [1, 2, 4],
        "transforms[0].jmespath: amount: is no JSON, or an expression fails for this record",
    )


REFUSED = [
    ({"jmespath": {"quantity": {"x": "a"}}}, 'transforms[0].jmespath: "quantity" is no text'),
    ({"jmespath": {"amount": {"x": "a["}}}, "transforms[0].jmespath: amount.x: is no JMESPath"),
    ({"jmespath": {"amount": {"quantity": "a"}}}, 'transforms[0].jmespath: "quantity" is a column'),
    ({"drop": ["prize"]}, 'transforms[0].drop: "prize" is not a column here; columns: order_id'),
    ({"rename": {"amount": "ORDER_ID"}}, 'transforms[0].rename: "order_id" is a column already'),
    ({"constant": {"amount": 1}}, 'transforms[0].constant: "amount" is a column already'),
    ({"flatten": ["amount"]}, 'transforms[0].flatten: "amount" is no struct'),
    ({"drop": ORDERS.names}, "transforms[0].drop: no column is left"),
    (
        {"cast": {"quantity": "date"}},
        "transforms[0].cast: quantity: long has no cast to date;",
    ),
    ({"cast": {"customer": "string"}}, "transforms[0].cast: customer: struct<id: long,"),
    ({"filter": "quantity + 1"}, "transforms[0].filter: gives int64, not true or false"),
    ({"sql": {"x": "amount + "}}, "transforms[0].sql: x: is not one SQL expression: syntax error"),
    ({"sql": {"x": "price * 2"}}, 'transforms[0].sql: x: "price" is not a column here'),
    ({"sql": {"x": "amount * [1]"}}, "transforms[0].sql: x: cannot be computed: Binder Error"),
    ({"sql": {"x": "interval 1 day"}}, "transforms[0].sql: x: Iceberg has no type for Arrow's"),
    ({"sql": {"Amount": "1"}}, 'transforms[0].sql: "Amount" differs only in letter case from'),
]


@pytest.mark.parametrize(("step", "reason"), REFUSED)
def test_what_cannot_be_done_is_refused_with_its_key(step, reason):
    with pytest.raises(ConfigError) as raised:
        transforms(step).check(ORDERS)
    assert str(raised.value).startswith(reason)
