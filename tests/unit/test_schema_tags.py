"""Tags are found wherever a schema has them.

Goal: no tagged field is missed, in any place that the two languages have for a field. Method:
schemas with a tag in each such place, against the paths written by hand.
"""

import json
from typing import Any

import pytest

from k2i_core.schema.registered import NamedText, SchemaLanguage, WriterSchema
from k2i_core.schema.tags import tagged_fields

PII = {"confluent:tags": ["PII"]}
ADDRESS = {
    "type": "record",
    "name": "Address",
    "namespace": "shop",
    "fields": [{"name": "street", "type": "string", **PII}, {"name": "city", "type": "string"}],
}
AVRO = {
    "type": "record",
    "name": "Person",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "email", "type": ["null", "string"], "confluent:tags": ["EMAIL", "PII"]},
        {"name": "home", "type": "Address"},
        {"name": "others", "type": {"type": "array", "items": ["null", "shop.Address"]}},
        {"name": "by_name", "type": {"type": "map", "values": "Address"}},
        {"name": "parent", "type": ["null", "Person"]},
    ],
}
JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "email": {"oneOf": [{"type": "null"}, {"type": "string", **PII}]},
        "home": {"$ref": "address.json"},
        "others": {"type": "array", "items": {"$ref": "#/$defs/other"}},
        "by_name": {"additionalProperties": {"$ref": "address.json"}},
        "parent": {"$ref": "#"},
    },
    "$defs": {"other": {"properties": {"street": {"type": "string", **PII}}}},
}
JSON_ADDRESS = {"properties": {"street": {"type": "string", **PII}, "city": {"type": "string"}}}
PATHS = {
    ("email",),
    ("home", "street"),
    ("others", "[]", "street"),
    ("by_name", "{}", "street"),
    ("parent",),
}


def schema(language: SchemaLanguage, text: Any, *references: NamedText) -> WriterSchema:
    return WriterSchema(1, language, json.dumps(text), references)


@pytest.mark.parametrize(
    "tagged",
    [
        schema(SchemaLanguage.AVRO, AVRO, NamedText("shop.Address", json.dumps(ADDRESS))),
        schema(
            SchemaLanguage.JSON_SCHEMA,
            JSON_SCHEMA,
            NamedText("address.json", json.dumps(JSON_ADDRESS)),
        ),
    ],
    ids=["avro", "json_schema"],
)
def test_a_tag_is_found_in_every_place_of_a_field(tagged):
    found = tagged_fields(tagged)
    assert {steps for steps, _ in found} == PATHS
    assert all("PII" in tags for _, tags in found)


def test_what_is_no_schema_has_no_tags():
    for text in ("", "[", "1", '{"type": "record"}', '{"properties": []}'):
        for language in SchemaLanguage:
            assert tagged_fields(WriterSchema(1, language, text)) == ()
