"""Goal: no secret is ever seen, and everything that is none can be.

Method: one file with a secret in every place where one can stand, read and then looked for in
every text that a pipeline, its parts and its errors make.
"""

import pickle
import traceback

import pytest
from pydantic import ValidationError

from k2i_core.config import FreeMapping, Kafka
from k2i_core.config.load import read_pipeline
from k2i_core.config.redaction import is_secret_key, redacted_text
from k2i_core.errors import ConfigError

SECRETS = ("hunter2-kafka", "hunter2-uri", "hunter2-s3", "hunter2-nested", "hunter2-jaas")

FILE_SECRET = "hunter2-file"

TEXT = """\
name: orders
kafka:
  bootstrap_servers: localhost:9092
  topics: [orders]
  group_id: ${file:GROUP}
  properties:
    sasl.username: someone
    sasl.password: hunter2-kafka
    sasl.jaas.config: 'password="hunter2-jaas";'
    ssl.key.password: ${DB_PASSWORD}
    ssl.ca.location: /etc/ca.pem
catalog:
  type: rest
  uri: http://user:hunter2-uri@localhost:8181/x?token=hunter2-uri&warehouse=w
  credential: ["never", "shown"]
  s3.access-key-id: AKIA
  s3.secret-access-key: hunter2-s3
  auth: {type: oauth2, oauth2: {client_id: me, client_secret: hunter2-nested}}
table:
  identifier: sales.orders
"""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "group"
    path.write_text(f"{FILE_SECRET}\n")
    return TEXT.replace("GROUP", str(path))


ENVIRON = {"DB_PASSWORD": "hunter2-env"}


def valid(text):
    return text.replace('  credential: ["never", "shown"]\n', "")


def test_a_pipeline_and_its_parts_show_no_secret(text):
    pipeline = read_pipeline(valid(text), "orders.yaml", environ=ENVIRON)
    shown = [
        repr(pipeline),
        str(pipeline),
        str(pipeline.redacted()),
        pipeline.model_dump_json(exclude={"kafka": {"group_id"}}),
        str(pipeline.model_dump(exclude={"kafka": {"group_id"}})),
        repr(pipeline.kafka.properties),
        repr(pipeline.catalog),
        str(pipeline.catalog.properties),
        repr(pipeline.catalog.model_dump()),
    ]
    for output in shown:
        assert "hunter2" not in output
    for output in shown[:3]:
        for plain in ("someone", "/etc/ca.pem", "AKIA", "localhost:8181/x", "warehouse=w", "me"):
            assert plain in output


def test_the_library_that_needs_a_secret_gets_it(text):
    pipeline = read_pipeline(valid(text), "orders.yaml", environ=ENVIRON)
    assert pipeline.group_id == FILE_SECRET
    assert pipeline.kafka.properties.reveal()["sasl.password"] == "hunter2-kafka"
    assert pipeline.kafka.properties.reveal()["ssl.key.password"] == "hunter2-env"
    properties = pipeline.catalog.properties.reveal()
    assert properties["s3.secret-access-key"] == "hunter2-s3"
    assert properties["auth"]["oauth2"]["client_secret"] == "hunter2-nested"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("topics: [orders]", "topics: [hunter2-kafka/a]"),
        ("identifier: sales.orders", "identifier: hunter2-s3"),
        ("name: orders", "name: ${DB_PASSWORD} x"),
        ("name: orders", "name: ${DB_PASSWORD}\nnmae: 1"),
        ("type: rest", "type: hunter2-nested"),
        ("localhost:9092", "admin:hunter2-unseen@localhost:9092"),
        ("uri: http", "uri: [http"),
        ("sasl.password: h", "sasl.password: - h"),
        ("sasl.password: hunter2-kafka", "sasl.password: {hunter2-kafka: 1}"),
        ("orders\n", "http://u:hunter2-unseen@x\n"),
    ],
)
def test_no_error_shows_a_secret_not_even_in_its_causes(text, old, new):
    assert old in text
    with pytest.raises(ConfigError) as raised:
        read_pipeline(text.replace(old, new, 1), "orders.yaml", environ=ENVIRON)
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


def test_the_models_themselves_echo_no_input():
    with pytest.raises(ValidationError) as raised:
        Kafka.model_validate({"bootstrap_servers": ["hunter2"], "hunter": "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(raised.value)


@pytest.mark.parametrize(
    ("variable", "secret", "shown"),
    [
        ("CLUSTER", "prod-1/", True),
        ("CLUSTER_TOKEN", "prod-1/", False),
        ("TOKEN", "a/", False),
    ],
)
def test_a_value_of_a_variable_is_shown_unless_its_name_says_secret(variable, secret, shown):
    text = TEXT.replace("${file:GROUP}", "g").replace("[orders]", f"['${{{variable}}}']")
    with pytest.raises(ConfigError) as raised:
        read_pipeline(text, "orders.yaml", environ={**ENVIRON, variable: secret})
    line = next(line for line in str(raised.value).splitlines() if "kafka.topics[0]" in line)
    value = secret if shown else "***"
    assert line == (
        f'orders.yaml:4: kafka.topics[0]: "{value}" is not a topic name; '
        "allowed: up to 249 letters, digits and . _ -"
    )


def test_a_file_of_a_secret_that_cannot_be_read_is_named(tmp_path):
    for name, content, reason in (
        ("absent", None, "cannot be read: no such file or directory"),
        ("latin", b"\xfc", "is not UTF-8 text"),
        ("large", b"a" * 65_537, "has more than 65536 bytes"),
    ):
        path = tmp_path / name
        if content:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as raised:
            read_pipeline(valid(TEXT).replace("GROUP", str(path)), "orders.yaml", environ=ENVIRON)
        assert str(raised.value) == f"orders.yaml:5: kafka.group_id: file {path} {reason}"


SECRET_KEYS = [
    "password",
    "sasl.password",
    "ssl.key.password",
    "ssl.keystore.password",
    "ssl.key.pem",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.pem",
    "s3.secret-access-key",
    "s3.session-token",
    "credential",
    "token",
    "header.Authorization",
    "header.X-Api-Key",
    "adls.account-key",
    "adls.sas-token",
    "adls.connection-string",
    "gcs.oauth2.token",
    "DB_PASSWORD",
]

PLAIN_KEYS = [
    "uri",
    "warehouse",
    "s3.access-key-id",
    "s3.endpoint",
    "sasl.username",
    "ssl.key.location",
    "sasl.oauthbearer.token.endpoint.url",
    "oauth2-server-uri",
    "token-refresh-enabled",
    "client.id",
    "compression.codec",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_a_key_that_names_a_secret_is_known(key):
    assert is_secret_key(key)


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_a_key_that_only_sounds_like_one_is_shown(key):
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:p@ss@host/db", "postgresql://***@host/db"),
        ("https://token@host", "https://***@host"),
        ("https://host/?a=b&password=c;x=y", "https://host/?a=b&password=***;x=y"),
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_an_address_is_shown_without_its_user(text, shown):
    assert redacted_text(text) == shown


def test_a_free_mapping_is_a_value():
    mapping = FreeMapping({"a": "b", "password": "hunter2"})
    assert pickle.loads(pickle.dumps(mapping)) == mapping
    assert hash(mapping) == hash(FreeMapping({"a": "b", "password": "hunter2"}))
    assert mapping != FreeMapping({"a": "b"})
    assert sorted(mapping) == ["a", "password"]
    assert len(mapping) == 2
    assert "a" in mapping
