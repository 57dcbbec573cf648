"""Properties of the CSV decoder.

Goal: a record is a row only if it is exactly one record of RFC 4180 with a field for each column,
its texts are those that Python's csv module reads, and neither depends on the records beside it:
one that holds a line break, an open quote or nothing at all shifts no neighbour.
Method: fields of every type, written by the csv module or thrown together from the characters that
matter, some damaged, decoded together and one by one, and compared with a reference: a regular
expression of the grammar, the csv module for the texts, and the JSON tests' values.
"""

import csv
import io
import re
from typing import Any

import pyarrow as pa
from hypothesis import event, example, given
from hypothesis import strategies as st

from k2i_core.decode.csv_decoder import CsvDecoder
from k2i_core.decode.csv_fields import CsvDialect
from tests.property.dear import dear
from tests.property.test_decode_json import (
    BadRecordError,
    Literal,
    reference_leaf,
    refuse,
)
from tests.property.verdicts import verdicts

ROW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("count", pa.int32()),
        pa.field("ratio", pa.float32()),
        pa.field("flag", pa.bool_()),
        pa.field("name", pa.string()),
        pa.field("amount", pa.decimal128(38, 3)),
        pa.field("seen", pa.timestamp("us", tz="UTC")),
        pa.field("epoch", pa.timestamp("us", tz="UTC")),
        pa.field("key", pa.uuid()),
        pa.field("blob", pa.binary()),
    ]
)
NAMES = tuple(ROW_SCHEMA.names)
FEW = ("id", "name")
TEXT_SCHEMA = pa.schema([pa.field("a", pa.string()), pa.field("b", pa.string())])
RFC = CsvDialect(NAMES)
DIALECTS = (RFC, CsvDialect(NAMES, ";", "'", "NULL"), CsvDialect(NAMES, "\t", None, "\\N"))
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def texts_of(value: bytes, dialect: CsvDialect) -> list[str | None]:
    """The texts of one record, None where a field without quotes is the null text."""
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise BadRecordError from error
    text = re.sub(r"\r?\n\Z", "", text, count=1) if text.endswith("\n") else text
    delimiter, quote = re.escape(dialect.delimiter), dialect.quote
    bare = f"[^{delimiter}\r\n{re.escape(quote or '')}]*"
    field = f"(?:{quote}(?:[^{quote}]|{quote}{quote})*{quote}|{bare})" if quote else bare
    if not re.fullmatch(f"{field}(?:{delimiter}{field})*", text):
        refuse()
    raw = re.findall(f"({field})(?:{delimiter}|\\Z)", text + "")[: len(dialect.columns) + 1]
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=quote,
        quoting=quoting,
        strict=True,
    )
    read = list(reader) or [[""]]
    assert len(read) == 1
    if len(read[0]) != len(dialect.columns):
        refuse()
    return [
        None if text == dialect.null and raw[number] == text else text
        for number, text in enumerate(read[0])
    ]


def value_of(text: str | None, field: Any) -> Any:
    kind = field.type
    if text is None:
        return None if field.nullable else refuse()
    if pa.types.is_boolean(kind):
        return BOOLEANS[text.lower()] if text.isascii() and text.lower() in BOOLEANS else refuse()
    if pa.types.is_integer(kind) or field.name == "epoch":
        is_whole = re.fullmatch(r"-?\d+", text, re.ASCII)
        return reference_leaf(Literal(text), kind, field.name) if is_whole else refuse()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        is_number = re.fullmatch(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII)
        return reference_leaf(Literal(text), kind, field.name) if is_number else refuse()
    return reference_leaf(text, kind, field.name)


def expected(value: bytes, dialect: CsvDialect, schema: pa.Schema) -> dict[str, Any] | None:
    try:
        texts = texts_of(value, dialect)
        named = dict(zip(dialect.columns, texts, strict=True))
        return {field.name: value_of(named.get(field.name), field) for field in schema}
    except BadRecordError:
        return None


SPECIAL = st.sampled_from(
    ["", '"', '""', ",", "\n", "\r\n", "\r", "a", "é", "'", ";", "\t", "NULL"]
)
TEXTS = st.lists(SPECIAL, max_size=4).map("".join)
GOOD = {
    "id": st.integers(-(2**63), 2**63 - 1).map(str),
    "count": st.integers(-(2**31), 2**31 - 1).map(str) | st.sampled_from(["007", "-0", ""]),
    "ratio": st.floats(allow_nan=False, width=32).map(str) | st.sampled_from(["1.", ".5", "-1e3"]),
    "flag": st.sampled_from(["true", "FALSE", "1", "0", "True", ""]),
    "name": TEXTS,
    "amount": st.decimals(-(10**20), 10**20, places=3).map(str) | st.just("1e2"),
    "seen": st.datetimes().map(lambda at: at.isoformat() + "Z"),
    "epoch": st.integers(-(10**13), 10**14).map(str),
    "key": st.uuids().map(str),
    "blob": st.sampled_from(["", "YQ==", "YWJj", "YQ"]),
}
ODD = st.sampled_from(
    ["+1", " 1", "0x1F", "1_0", "nan", "inf", "1e39", "1e400", "2147483648", "9" * 20, "t", "yes"]
) | st.sampled_from(["1" * 39, "0.0001", "2024-01-01", "24:00", "--1", "1e", "NULL", "\\N", "١"])
rarely = st.integers(0, 15).map(lambda number: number == 15)


@st.composite
def records(draw: st.DrawFn, dialect: CsvDialect) -> bytes:
    fields = [draw(ODD if draw(rarely) else GOOD[name]) for name in dialect.columns]
    if draw(rarely):
        fields = fields[: draw(st.integers(0, len(fields)))] + draw(st.lists(TEXTS, max_size=2))
    if dialect.quote is None or draw(rarely):
        record = dialect.delimiter.join(fields).encode()
    else:
        output = io.StringIO(newline="")
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
        csv.writer(
            output,
            delimiter=dialect.delimiter,
            quotechar=dialect.quote,
            quoting=quoting,
            lineterminator="",
        ).writerow(fields)
        record = output.getvalue().encode()
    while draw(rarely):
        place = draw(st.integers(0, len(record)))
        damage = draw(SPECIAL.map(str.encode) | st.sampled_from([b"\xff", b"\0", b"\xc3"]))
        record = record[:place] + damage + record[place + draw(st.integers(0, 2)) :]
    return record + draw(st.sampled_from([b"", b"", b"\n", b"\r\n", b"\r", b"\n\n"]))


def check_batch(values: list[bytes], dialect: CsvDialect, schema: pa.Schema = ROW_SCHEMA) -> None:
    time_formats = {"epoch": "epoch_ms"} if "epoch" in schema.names else {}
    decoder = CsvDecoder(schema, dialect, time_formats=time_formats)
    array = pa.array([b'"', *values, b"1\n"], pa.binary()).slice(1, len(values))
    together = verdicts(decoder.decode(array), len(values))
    alone = [verdicts(decoder.decode(pa.array([v], pa.binary())), 1)[0] for v in values]
    assert together == alone
    for value, outcome in zip(values, together, strict=True):
        event(outcome[0] if isinstance(outcome, tuple) else "row")
        row = outcome if isinstance(outcome, dict) else None
        assert row == expected(value, dialect, schema), (value, outcome)


@dear
@given(st.data(), st.sampled_from(DIALECTS))
def test_a_batch_is_its_records_one_by_one_and_each_is_what_python_reads(
    data: st.DataObject, dialect: CsvDialect
) -> None:
    check_batch(data.draw(st.lists(records(dialect), min_size=1, max_size=10)), dialect)


SOUP = st.lists(
    st.sampled_from([b'"', b",", b"\n", b"\r\n", b"\r", b"a", b'""', b'"a"']), max_size=7
).map(b"".join)


@example([b'"a"a"a",a', b'"a""', b"a\r,", b"a,\r", b"a,\n\n", b"", b",", b'"a","a"\r\n'])
@given(st.lists(SOUP, min_size=1, max_size=16))
def test_no_mixture_of_quotes_and_line_breaks_shifts_a_neighbour(values: list[bytes]) -> None:
    check_batch(values, CsvDialect(("a", "b")), TEXT_SCHEMA)
    check_batch(values, CsvDialect(("a",)), TEXT_SCHEMA)


def test_what_only_few_records_have_is_found_among_thousands() -> None:
    values = [b'%d,"a, ""b""\n%d"' % (n, n) for n in range(5_000)]
    values[17:17] = [b"", b'1,"a', b"1,a\n2,b", b'"1","a""']
    decoded = CsvDecoder(ROW_SCHEMA, CsvDialect(FEW), time_formats={}).decode(
        pa.array(values, pa.binary())
    )
    assert [failure.index for failure in decoded.failures] == [17, 18, 19, 20]
    assert decoded.row_indices is not None
    assert decoded.row_indices.to_pylist() == [*range(17), *range(21, 5_004)]
    assert decoded.rows.column("id").to_pylist() == list(range(5_000))
    assert decoded.rows.column("name")[4_999].as_py() == 'a, "b"\n4999'
