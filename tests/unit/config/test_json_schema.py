"""Goal: an editor that knows the JSON Schema helps with every key of the file.

Method: walk the schema and look at every key; the sample's keys must all be in it.
"""

import json

import yaml

from k2i_core.config import json_schema
from tests.unit.config.pipeline_texts import SAMPLE


def keys(schema, defs, path=""):
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}", inner
        target = defs.get(inner.get("$ref", "").rpartition("/")[2])
        if target and "properties" in target:
            yield from keys(target, defs, f"{path}{name}.")


def all_keys():
    schema = json_schema()
    return dict(keys(schema, schema["$defs"])), schema["$defs"]


def test_every_key_says_what_it_is_and_how_it_looks():
    found, defs = all_keys()
    assert len(found) > 50
    columns = {f"table.columns.{n}": s for n, s in defs["Column"]["properties"].items()}
    for path, schema in {**found, **columns}.items():
        target = defs.get(schema.get("$ref", "").rpartition("/")[2], {})
        assert schema.get("description") or target.get("description"), path
        assert schema.get("examples"), path


def test_defaults_look_as_in_the_file():
    found, _ = all_keys()
    assert found["flush.max_age"]["default"] == "30s"
    assert found["flush.max_bytes"]["default"] == "128MiB"
    assert found["kafka.start"]["default"] == "earliest"
    assert found["maintenance.orphans.older_than"]["default"] == "3d"
    assert found["workers"]["default"] == 1
    assert found["monitoring.freshness.warn"]["default"] == "off"
    assert found["monitoring.lag_messages.warn"]["default"] == 1_000_000
    assert found["orchestration.max_run_minutes"]["default"] == 60


def test_every_key_of_the_sample_is_known():
    found, _ = all_keys()

    def written(tree, path=""):
        for key, value in tree.items():
            yield f"{path}{key}"
            if isinstance(value, dict):
                yield from written(value, f"{path}{key}.")

    tags = {"orchestration.tags.tier", "orchestration.tags.revision"}
    foreign = {"catalog.uri", "catalog.warehouse", *tags}
    assert set(written(yaml.safe_load(SAMPLE))) - set(found) == foreign


def test_unknown_keys_are_marked_except_in_the_catalog():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    sections = {k: v for k, v in schema["$defs"].items() if v["type"] == "object"}
    is_open = {name for name, s in sections.items() if s["additionalProperties"] is not False}
    assert is_open == {"Catalog"}


def test_the_schema_is_plain_json_and_always_the_same():
    assert json.dumps(json_schema()) == json.dumps(json_schema())
