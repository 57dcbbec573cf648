"""What privacy declares is left of a value, and nothing more.

Goal: hashes are HMAC-SHA256 as every other program computes it, tokens cannot be joined over
columns, and no path that leads nowhere is taken for protection. Method: small batches through
chains as a file declares them, against Python's own hmac.
"""

import hashlib
import hmac
import json
from typing import Any

import pyarrow as pa
import pytest

from k2i_core.config.load import parse_pipeline
from k2i_core.errors import ConfigError
from k2i_core.schema.registered import SchemaLanguage, WriterSchema
from k2i_core.schema.tags import tagged_fields
from k2i_core.transform.chain import Transforms
from k2i_core.transform.privacy import Action
from k2i_core.wiring.schema_tags import SchemaTags
from k2i_core.wiring.transforms import transforms_of
from tests.unit.transform.chains import PIPELINE, apply, origin_of

SECRET = "a secret of some length"
AVRO_FORMAT = {"value": "avro", "schema_registry": {"url": "http://localhost:8081"}}

PEOPLE = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("email", pa.string()),
        pa.field("customer", pa.struct([("name", pa.string()), ("email", pa.string())])),
        pa.field(
            "items",
            pa.list_(pa.field("element", pa.struct([("n", pa.int64()), ("note", pa.string())]))),
        ),
    ]
)


def privacy(columns: dict[str, str], *steps: dict[str, Any], **more: Any) -> Transforms:
    section = {"columns": columns, "secret": SECRET, **more}
    settings = {**PIPELINE, "transforms": list(steps), "privacy": section}
    made = transforms_of(parse_pipeline(settings))
    assert made is not None
    return made


def people(*rows: dict[str, Any]) -> pa.RecordBatch:
    full = [dict.fromkeys(PEOPLE.names) | {"id": n} for n in range(len(rows))]
    return pa.RecordBatch.from_pylist(
        [one | row for one, row in zip(full, rows, strict=True)], schema=PEOPLE
    )


def digest(value: str) -> str:
    return hmac.digest(SECRET.encode(), value.encode(), hashlib.sha256).hex()


def test_a_hash_is_hmac_sha256_under_the_secret_and_null_stays_null():
    done = apply(privacy({"email": "hash", "id": "hash"}), people({"email": "ä@b"}, {}))
    assert done.rows.column("email").to_pylist() == [digest("ä@b"), None]
    assert done.rows.column("id").to_pylist() == [digest("0"), digest("1")]


def test_equal_values_have_equal_hashes_everywhere_and_tokens_in_their_column_only():
    row = {"email": "a@b", "customer": {"name": "a@b", "email": "a@b"}}
    hashed = apply(privacy({"email": "hash", "customer.email": "hash"}), people(row, row))
    first, second = hashed.rows.to_pylist()
    assert first["email"] == second["email"] == first["customer"]["email"] == digest("a@b")
    columns = {"email": "tokenise", "customer.email": "tokenise"}
    first, second = apply(privacy(columns), people(row, row)).rows.to_pylist()
    assert first["email"] == second["email"] != first["customer"]["email"]
    assert first["email"].startswith("tok_")
    assert len(first["email"]) == 36


@pytest.mark.parametrize(
    ("value", "masked"),
    [("", ""), ("Ann", "***"), ("12345678", "********"), ("4111111111111111", "************1111")],
)
def test_a_mask_leaves_stars_and_of_long_text_four_letters(value, masked):
    done = apply(privacy({"email": "mask"}), people({"email": value}))
    assert done.rows.column("email").to_pylist() == [masked]


def test_paths_lead_into_structs_and_lists():
    made = privacy({"customer.name": "drop", "customer.email": "redact", "items[].note": "mask"})
    rows = people(
        {"customer": {"name": "Ann", "email": "a@b"}, "items": [{"n": 1, "note": "x"}, None]},
        {},
        {"customer": {"name": "Ben", "email": None}, "items": []},
        {"items": [{"n": 2, "note": "yz"}]},
    )
    expected = [
        ({"email": "[redacted]"}, [{"n": 1, "note": "*"}, None]),
        (None, None),
        ({"email": None}, []),
        (None, [{"n": 2, "note": "**"}]),
    ]
    done = apply(made, rows).rows.select(["customer", "items"]).to_pylist()
    assert [tuple(row.values()) for row in done] == expected
    # A part of a batch, whose lists do not begin at the array's first element.
    part = apply(made, rows.slice(2)).rows.select(["customer", "items"]).to_pylist()
    assert [tuple(row.values()) for row in part] == expected[2:]


def test_a_change_event_is_protected_before_and_after_the_change():
    before = pa.array([{"id": 1, "email": "a@b", "customer": {"name": "Ann", "email": "x"}}, None])
    rows = people({"email": "a@b"}, {"email": "c@d"}).append_column("__before", before)
    made = privacy({"email": "tokenise", "customer.name": "drop"})
    first, second = apply(made, rows).rows.to_pylist()
    assert first["__before"] == {"id": 1, "email": first["email"], "customer": {"email": "x"}}
    assert first["email"].startswith("tok_")
    assert second["__before"] is None
    whole = privacy({"email": "hash", "__before": "drop"})
    assert "__before" not in whole.check(rows.schema).names


def tagged_privacy(tags: SchemaTags, columns: dict[str, str]) -> Transforms:
    section = {"columns": columns, "tags": {"PII": "hash"}, "secret": SECRET}
    pipeline = parse_pipeline({**PIPELINE, "format": AVRO_FORMAT, "privacy": section})
    made = transforms_of(pipeline, tags)
    assert made is not None
    return made


def avro_of(**fields: object) -> WriterSchema:
    listed = [
        {"name": name, "type": type_, "confluent:tags": ["PII"]} for name, type_ in fields.items()
    ]
    text = json.dumps({"type": "record", "name": "Person", "fields": listed})
    return WriterSchema(1, SchemaLanguage.AVRO, text)


def test_what_a_schema_tags_is_protected_from_then_on_in_all_records():
    tags = SchemaTags({"PII": Action.HASH}, has_envelope=False)
    made = tagged_privacy(tags, {"customer": "drop"})
    rows = people({"email": "a@b", "items": [{"n": 1, "note": "x"}]})
    assert apply(made, rows).rows.to_pylist()[0]["email"] == "a@b"
    item = {"type": "record", "name": "Item", "fields": [{"name": "note", "type": "string"}]}
    item["fields"][0]["confluent:tags"] = ["PII"]
    tags.learn(tagged_fields(avro_of(email="string", no_column="string", customer="string")))
    items = {"type": "array", "items": item}
    text = json.dumps({"type": "record", "name": "P", "fields": [{"name": "items", "type": items}]})
    tags.learn(tagged_fields(WriterSchema(2, SchemaLanguage.AVRO, text)))
    assert apply(made, rows).rows.to_pylist() == [
        {"id": 0, "email": digest("a@b"), "items": [{"n": 1, "note": digest("x")}]}
    ]


def test_what_hides_a_tagged_field_is_protected_as_a_whole():
    tags = SchemaTags({"PII": Action.REDACT}, has_envelope=True)
    inside = {"type": "record", "name": "In", "fields": [{"name": "secret", "type": "string"}]}
    inside["fields"][0]["confluent:tags"] = ["PII"]
    row = [
        {"name": "text", "type": inside},
        {"name": "map", "type": {"type": "map", "values": inside}},
    ]
    after = {"type": "record", "name": "Row", "fields": row}
    fields = [{"name": "after", "type": after}, {"name": "before", "type": "Row"}]
    text = json.dumps({"type": "record", "name": "Envelope", "fields": fields})
    tags.learn(tagged_fields(WriterSchema(1, SchemaLanguage.AVRO, text)))
    map_type = pa.map_(pa.string(), pa.string())
    schema = pa.schema(
        [
            ("text", pa.string()),
            ("map", map_type),
            ("__before", pa.struct([("text", pa.string())])),
        ]
    )
    value = {"text": "plain", "map": [("a", "plain")], "__before": {"text": "plain"}}
    done = apply(tagged_privacy(tags, {}), pa.RecordBatch.from_pylist([value], schema))
    hidden = {"text": "[redacted]", "map": None, "__before": {"text": "[redacted]"}}
    assert done.rows.to_pylist() == [hidden]


def test_what_is_redacted_or_dropped_has_any_type():
    done = apply(privacy({"id": "redact", "items": "drop", "customer": "redact"}), people({}))
    assert done.rows.to_pylist() == [{"id": None, "email": None, "customer": None}]


def test_steps_see_protected_values_only_and_what_they_make_is_protected_after_them():
    made = privacy(
        {"email": "mask", "phrase": "redact"},
        {"sql": {"copy": "email", "phrase": "'id ' || id"}},
    )
    done = apply(made, people({"email": "Ann"}))
    assert done.rows.select(["email", "copy", "phrase"]).to_pylist() == [
        {"email": "***", "copy": "***", "phrase": "[redacted]"}
    ]


def test_keys_and_headers_are_dropped_unless_the_file_says_otherwise():
    hidden = privacy({}).hide(origin_of(2))
    assert hidden.field("key").to_pylist() == [None, None]
    assert hidden.field("offset").to_pylist() == [100, 101]
    hashed = privacy({}, key="hash", headers="keep").hide(origin_of(1))
    assert hashed.field("key").to_pylist() == [digest("k").encode()]
    assert privacy({}, key="keep").hide(origin_of(1)).field("key").to_pylist() == [b"k"]


REFUSED = [
    ({"emial": "hash"}, 'privacy.columns: "emial" is no column, neither of the records nor'),
    ({"customer.phone": "hash"}, 'privacy.columns: "customer.phone" is no column'),
    ({"items.note": "hash"}, 'privacy.columns: "items.note" is no column'),
    ({"id": "mask"}, 'privacy.columns: "id" is long: mask is for text; redact or drop it'),
    ({"customer": "hash"}, 'privacy.columns: "customer" is struct<name: string, email: string>:'),
    ({"customer": "redact", "customer.name": "hash"}, 'privacy.columns: "customer.name" lies'),
    (
        {"customer.name": "drop", "customer.email": "drop"},
        'privacy.columns: nothing is left of "customer"; drop it as a whole',
    ),
]


@pytest.mark.parametrize(("columns", "reason"), REFUSED)
def test_what_cannot_be_protected_so_is_refused(columns, reason):
    with pytest.raises(ConfigError) as raised:
        privacy(columns).check(PEOPLE)
    assert str(raised.value).startswith(reason)


def test_the_secret_is_shown_nowhere():
    settings = {**PIPELINE, "privacy": {"columns": {"email": "hash"}, "secret": SECRET}}
    pipeline = parse_pipeline(settings)
    assert pipeline.privacy is not None
    made = transforms_of(pipeline)
    assert made is not None
    shown = f"{pipeline!r} {pipeline.privacy!r} {pipeline.redacted()} {made._privacy._rules!r}"
    assert SECRET not in shown
    assert "***" in shown
