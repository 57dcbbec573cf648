"""Goal: a file, variables and the command line become one value, in that order of strength.

Method: whole files as text, read and compared with the settings that must come out; the few cases
about files themselves use a temporary folder.
"""

import pickle
from pathlib import Path

import pytest

from k2i_core.config import (
    PartitionField,
    SortField,
    StartEarliest,
    StartLatest,
    StartOffsets,
    StartTimestamp,
    load_pipeline,
    parse_pipeline,
)
from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError, ErrorKind
from k2i_core.schema.evolution import SchemaEvolution
from k2i_core.schema.iceberg_types import IcebergField, PrimitiveType
from tests.unit.config.broken_settings import SERVERS
from tests.unit.config.broken_tables import TABLE
from tests.unit.config.pipeline_texts import SAMPLE, SHORT, with_lines


def read(text, **options):
    return read_pipeline(text, "orders.yaml", **options)


def test_the_sample_of_the_design_loads():
    pipeline = read(SAMPLE)
    assert pipeline.name == "orders"
    assert pipeline.kafka.topics == ("orders",)
    assert pipeline.format.key == "string"
    assert pipeline.catalog.properties.reveal() == {
        "type": "sql",
        "uri": "sqlite:///.k2i/catalog.db",
        "warehouse": ".k2i/warehouse",
    }
    assert pipeline.declared_columns() == (
        IcebergField("order_id", PrimitiveType.LONG, required=True),
        IcebergField("created_at", PrimitiveType.TIMESTAMPTZ),
        IcebergField("customer_id", PrimitiveType.LONG),
    )
    assert pipeline.table.partition_by == (
        PartitionField("day", "created_at"),
        PartitionField("bucket", "customer_id", 16),
    )
    assert pipeline.table.sort_by == (SortField("created_at"),)
    assert pipeline.maintenance.compaction.target_file_bytes == 512 * 2**20
    assert pipeline.maintenance.expiration.older_than == 7 * 86_400
    assert pipeline.maintenance.orphans.older_than == 3 * 86_400
    monitoring, orchestration = pipeline.monitoring, pipeline.orchestration
    assert (monitoring.freshness.warn, monitoring.freshness.fail) == (300.0, 900.0)
    assert (monitoring.lag_messages.warn, monitoring.lag_messages.fail) == (500_000, None)
    shares = monitoring.dead_letter_share
    assert (shares.warn, shares.fail) == (0.001, 0.5)
    assert (orchestration.max_run_minutes, orchestration.publish_every) == (90.0, 10.0)
    assert orchestration.audit_schedule == "*/20 * * * *"
    assert orchestration.owners == ("team:data", "ada@example.com")
    assert orchestration.tags == {"tier": "gold", "revision": "7"}


def test_what_is_not_written_has_its_default():
    pipeline = read(SHORT)
    assert pipeline.kafka.start == StartEarliest()
    assert pipeline.group_id == "k2i-orders"
    assert (pipeline.format.value, pipeline.format.key) == ("json", "raw")
    assert pipeline.catalog.name == "k2i"
    assert pipeline.declared_columns() is None
    assert pipeline.table.schema_evolution is SchemaEvolution.ADD_COLUMNS
    assert (pipeline.table.codec, pipeline.table.codec_level) == ("zstd", 1)
    assert pipeline.table.target_file_bytes == 512 * 2**20
    flush = pipeline.flush
    assert (flush.max_age, flush.max_rows) == (30.0, 1_000_000)
    assert (flush.max_bytes, flush.max_buffered_bytes) == (128 * 2**20, 256 * 2**20)
    assert pipeline.dead_letter_table == "sales.orders_dead_letters"
    assert pipeline.workers == 1
    assert pipeline.state_directory == Path(".k2i/state")
    freshness, lag = pipeline.monitoring.freshness, pipeline.monitoring.lag_messages
    shares, orchestration = pipeline.monitoring.dead_letter_share, pipeline.orchestration
    assert (freshness.warn, freshness.fail) == (None, None)
    assert (lag.warn, lag.fail) == (1_000_000, None)
    assert (shares.warn, shares.fail) == (0.01, None)
    assert (orchestration.max_run_minutes, orchestration.publish_every) == (60.0, 30.0)
    assert orchestration.audit_schedule == "*/10 * * * *"
    assert (orchestration.owners, orchestration.tags) == ((), {})


def test_a_limit_or_an_audit_can_be_switched_off():
    text = with_lines(
        monitoring="{lag_messages: {warn: off}, dead_letter_share: {warn: false, fail: 0}}",
        orchestration="{audit_schedule: off}",
    )
    pipeline = read(text)
    assert pipeline.monitoring.lag_messages.warn is None
    shares = pipeline.monitoring.dead_letter_share
    assert (shares.warn, shares.fail) == (None, 0.0)
    assert pipeline.orchestration.audit_schedule is None
    assert pipeline.redacted()["orchestration"]["audit_schedule"] == "off"
    assert parse_pipeline(pipeline.redacted()) == pipeline


def test_a_section_with_nothing_in_it_has_its_defaults():
    text = with_lines(flush="", maintenance="\n  orphans:\n  expiration:", hot="")
    assert read(text) == read(SHORT)


def test_hot_rows_can_be_switched_off_and_placed():
    assert read(SHORT).hot.enabled
    off = read(with_lines(hot="off"))
    assert not off.hot.enabled
    assert parse_pipeline(off.redacted()) == off
    placed = read(with_lines(hot="{directory: /run/k2i, max_bytes: 64MiB}"))
    assert (placed.hot.enabled, placed.hot.max_bytes) == (True, 64 * 1024 * 1024)
    assert placed.hot_directories[0] == Path("/run/k2i")
    assert placed.hot_directories[1].name == "hot"


def test_a_pipeline_is_a_value():
    assert read(SAMPLE) == read(SAMPLE)
    assert len({read(SAMPLE), read(SAMPLE), read(SHORT)}) == 2
    assert pickle.loads(pickle.dumps(read(SAMPLE))) == read(SAMPLE)
    with pytest.raises(ValueError, match="frozen"):
        read(SAMPLE).workers = 2


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("earliest", StartEarliest()),
        ("latest", StartLatest()),
        ("{timestamp: 2026-01-01T00:00:00Z}", StartTimestamp(1_767_225_600_000)),
        ("{timestamp: '2026-01-01T02:00:00.25+02:00'}", StartTimestamp(1_767_225_600_250)),
        ("{offsets: {a: {0: 42, 7: 0}}}", StartOffsets({"a": {0: 42, 7: 0}})),
    ],
)
def test_a_start_is_read(written, start):
    text = with_lines(kafka=f"{SERVERS}\n  topics: [a]\n  start: {written}")
    assert read(text).kafka.start == start


def test_text_and_bytes_have_one_column_without_being_told():
    for value, type_ in (("string", PrimitiveType.STRING), ("raw", PrimitiveType.BINARY)):
        implied = read(with_lines(format=f"{{value: {value}}}")).declared_columns()
        assert implied == (IcebergField("value", type_),)
        table = f"{TABLE}\n  columns: [{{name: value, type: {type_.value}, required: true}}]"
        declared = read(with_lines(format=f"{{value: {value}}}", table=table)).declared_columns()
        assert declared == (IcebergField("value", type_, required=True),)


def test_columns_keep_their_doc_and_their_time_format():
    table = (
        f"{TABLE}\n  columns:\n    - {{name: at, type: timestamp, format: epoch_ms, doc: when}}\n"
        "    - {name: on, type: date, format: iso}\n    - {name: b, type: binary, encoding: base64}"
    )
    pipeline = read(with_lines(table=table))
    assert pipeline.time_formats() == {"at": "epoch_ms"}
    assert pipeline.declared_columns()[0].doc == "when"


def test_the_writers_settings_are_icebergs_properties():
    table = (
        f"{TABLE}\n  properties:\n    write.parquet.compression-codec: uncompressed\n"
        "    write.target-file-size-bytes: 134217728\n    write.metadata.metrics.default: full"
    )
    settings = read(with_lines(table=table)).table
    assert (settings.codec, settings.codec_level) == ("none", None)
    assert settings.target_file_bytes == 128 * 2**20
    assert settings.properties.reveal()["write.metadata.metrics.default"] == "full"


def test_numbers_and_truths_become_the_text_that_libraries_spell():
    kafka = (
        f"{SERVERS}\n  topics: [a]\n  properties: {{fetch.wait.max.ms: 50, "
        "socket.keepalive.enable: true, client.rack: 0012, statistics: 1.10, debug: no}"
    )
    assert read(with_lines(kafka=kafka)).kafka.properties.reveal() == {
        "fetch.wait.max.ms": "50",
        "socket.keepalive.enable": "true",
        "client.rack": "0012",
        "statistics": "1.10",
        "debug": "no",
    }


def test_a_catalog_takes_any_property_nested_ones_too():
    catalog = (
        "\n  type: rest\n  name: prod\n  uri: http://localhost:8181\n  token-refresh-enabled: true"
        "\n  auth: {type: basic, basic: {username: u, password: p}}"
    )
    pipeline = read(with_lines(catalog=catalog))
    assert pipeline.catalog.name == "prod"
    assert pipeline.catalog.properties.reveal() == {
        "type": "rest",
        "uri": "http://localhost:8181",
        "token-refresh-enabled": "true",
        "auth": {"type": "basic", "basic": {"username": "u", "password": "p"}},
    }


SUBSTITUTED = [
    ("${A}", "one"),
    ("x-${A}-${B:-two}", "x-one-two"),
    ("${EMPTY:-two}", "two"),
    ("${EMPTY}x", "x"),
    ("${NONE:-}x", "x"),
    ("$${A} $A $", "${A} $A $"),
    ("${NONE:-a:b c}", "a:b c"),
]


@pytest.mark.parametrize(("written", "value"), SUBSTITUTED)
def test_variables_stand_in_any_text(written, value):
    catalog = f"\n  type: sql\n  uri: x\n  warehouse: w\n  some.property: '{written}'"
    environ = {"A": "one", "EMPTY": ""}
    properties = read(with_lines(catalog=catalog), environ=environ).catalog.properties.reveal()
    assert properties["some.property"] == value


def test_a_variable_may_be_a_number_a_duration_or_an_element():
    text = with_lines(
        workers="${WORKERS}",
        flush="{max_age: '${AGE}', max_rows: '${ROWS:-2_000}'}",
        kafka=f"{SERVERS}\n  topics: ['${{TOPIC}}']",
    )
    pipeline = read(text, environ={"WORKERS": "4", "AGE": "5s", "TOPIC": "a"})
    assert (pipeline.workers, pipeline.flush.max_age, pipeline.flush.max_rows) == (4, 5.0, 2000)
    assert pipeline.kafka.topics == ("a",)


def test_the_command_line_beats_the_environment_and_both_beat_the_file():
    text = with_lines(flush="{max_age: 1s, max_rows: 1, max_bytes: 1MiB}")
    pipeline = read(
        text,
        environ={"K2I__FLUSH__MAX_AGE": "2s", "K2I__FLUSH__MAX_ROWS": "2", "K2I_LOG": "x"},
        overrides={"flush.max_age": "3s"},
    )
    flush = pipeline.flush
    assert (flush.max_age, flush.max_rows, flush.max_bytes) == (3.0, 2, 2**20)


def test_overriding_reaches_sections_that_the_file_lacks_and_lists_as_a_whole():
    pipeline = read(
        SHORT,
        environ={
            "K2I__NAME": "other",
            "K2I__KAFKA__TOPICS": "[a, b]",
            "K2I__MAINTENANCE__ORPHANS__OLDER_THAN": "2d",
        },
        overrides={"kafka.start": "{timestamp: 2026-01-01T00:00:00Z}"},
    )
    assert pipeline.name == "other"
    assert pipeline.kafka.topics == ("a", "b")
    assert pipeline.kafka.start == StartTimestamp(1_767_225_600_000)
    assert pipeline.maintenance.orphans.older_than == 2 * 86_400


def test_foreign_keys_are_reached_by_variables_in_their_own_spelling():
    pipeline = read(
        SHORT,
        environ={
            "K2I__KAFKA__PROPERTIES__SASL__PASSWORD": "{p${x",
            "K2I__KAFKA__PROPERTIES__SECURITY_PROTOCOL": "SASL_SSL",
            "K2I__CATALOG__S3__SECRET_ACCESS_KEY": "[s",
            "K2I__TABLE__PROPERTIES__WRITE__PARQUET__COMPRESSION_CODEC": "gzip",
            "K2I__ORCHESTRATION__TAGS__EXAMPLE__COST_CENTER": "007",
            "K2I__ORCHESTRATION__OWNERS": "[team:data]",
            "K2I__MONITORING__FRESHNESS__FAIL": "15m",
        },
        overrides={"catalog.s3.endpoint": "http://localhost:9000", "catalog.uri": "sqlite://"},
    )
    assert pipeline.kafka.properties.reveal() == {
        "sasl.password": "{p${x",
        "security.protocol": "SASL_SSL",
    }
    properties = pipeline.catalog.properties.reveal()
    assert properties["s3.secret-access-key"] == "[s"
    assert properties["s3.endpoint"] == "http://localhost:9000"
    assert properties["uri"] == "sqlite://"
    assert pipeline.table.codec == "gzip"
    assert pipeline.orchestration.tags == {"example.cost_center": "007"}
    assert pipeline.orchestration.owners == ("team:data",)
    assert pipeline.monitoring.freshness.fail == 900.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kafka.topics", "[a", "kafka.topics: is not a list or mapping in YAML"),
        ("table.columns.name", "a", "table.columns.name: cannot be set alone; set table.columns "),
        ("kafka", "a", "kafka: must be a mapping of keys"),
        ("fush.max_age", "1s", 'fush: is not a key; did you mean "flush"?'),
    ],
)
def test_an_override_that_fits_nowhere_is_an_error_at_its_own_place(key, value, message):
    columns = with_lines(table=f"{TABLE}\n  columns: [{{name: a, type: int}}]")
    with pytest.raises(ConfigError) as raised:
        read(columns, overrides={key: value})
    assert str(raised.value).startswith(f"command line: {message}")


def test_settings_in_memory_are_checked_like_a_file():
    settings = {
        "name": "orders",
        "kafka": {"bootstrap_servers": "localhost:9092", "topics": ["orders"]},
        "catalog": {"type": "sql", "uri": "sqlite:///catalog.db", "warehouse": "warehouse"},
        "table": {"identifier": "sales.orders", "sort_by": ("a", "a")},
    }
    with pytest.raises(ConfigError) as raised:
        parse_pipeline(settings, source="component orders")
    assert str(raised.value) == 'component orders: table.sort_by[1]: "a" is there already'
    settings["table"]["sort_by"] = ()
    assert parse_pipeline(settings) == read(SHORT)


@pytest.mark.parametrize(
    "text",
    [
        SAMPLE,
        SHORT,
        with_lines(
            kafka=f"{SERVERS}\n  topic_pattern: ^o\n  start: {{timestamp: 2026-01-01T00:00:00Z}}",
            table=f"{TABLE}\n  sort_by: [a desc nulls first, '`b c`']\n"
            "  partition_by: ['truncate(3, `x y`)', '`d(e)`']",
            flush="{max_age: 1500ms, max_bytes: 1000001}",
        ),
        with_lines(kafka=f"{SERVERS}\n  topics: [a]\n  start: {{offsets: {{a: {{0: 1}}}}}}"),
    ],
)
def test_the_shown_settings_make_the_same_pipeline(text):
    pipeline = read(text)
    assert parse_pipeline(pipeline.redacted()) == pipeline


def test_a_file_is_read_with_the_processs_own_variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K2I__WORKERS", "3")
    Path("orders.yaml").write_text(SHORT)
    assert load_pipeline(Path("orders.yaml")).workers == 3
    assert load_pipeline(Path("orders.yaml"), environ={}).workers == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    broken = {
        "absent.yaml": ("cannot be read: no such file or directory", None),
        "latin.yaml": ("is not UTF-8 text, first at byte=6", b"name: \xfcber"),
        "large.yaml": ("has more than 1048576 bytes, so it is no pipeline file", b"#" * 2**21),
    }
    for name, (message, content) in broken.items():
        path = tmp_path / name
        if content:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as raised:
            load_pipeline(path, environ={})
        assert str(raised.value) == f"{path}: {message}"
        assert raised.value.kind is ErrorKind.CONFIG_UNREADABLE
