"""The `format` section: what is a secret there stays one.

Goal: no dump, repr or message shows a password or token of a registry. Method: a pipeline with all
of them, shown in every way.
"""

import json

from k2i_core.config.load import read_pipeline
from tests.unit.config.pipeline_texts import with_lines

REGISTRY = (
    "{url: 'https://r:8081', username: me, password: pass-one, certificate_file: c.pem,"
    " key_file: k.pem, key_password: pass-two}"
)
TOKEN = "{url: 'https://r:8081', bearer_token: token-three}"


def test_secrets_of_a_registry_are_never_shown() -> None:
    for registry, secrets in ((REGISTRY, ("pass-one", "pass-two")), (TOKEN, ("token-three",))):
        text = with_lines(format=f"{{value: avro, schema_registry: {registry}}}")
        pipeline = read_pipeline(text, "orders.yaml")
        section = pipeline.format.schema_registry
        assert section is not None
        shown = "".join(
            [
                repr(pipeline),
                repr(section),
                str(pipeline.format),
                json.dumps(pipeline.redacted()),
                json.dumps(pipeline.model_dump(mode="json")),
            ]
        )
        for secret in secrets:
            assert secret not in shown
            assert secret in (section.password, section.key_password, section.bearer_token)
        assert "***" in shown
        assert "https://r:8081" in shown


def test_a_registry_without_secrets_shows_none() -> None:
    text = with_lines(format="{value: avro, schema_registry: {url: 'http://r:8081/'}}")
    shown = read_pipeline(text, "orders.yaml").redacted()["format"]["schema_registry"]
    assert shown["url"] == "http://r:8081"
    assert shown["password"] is None
    assert shown["retry_for"] == "1m"
