"""Goal: a wrong pipeline file says where, what and what would be right, all at once.

Method: a table of files, each a small valid one with one section replaced, and the exact message.
The file's name is orders.yaml; `with_lines` puts a replaced section at its end, line by line.
"""

import pytest

from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError, ErrorKind
from tests.unit.config.broken_checks import BROKEN_CHECKS
from tests.unit.config.broken_formats import BROKEN_FORMATS
from tests.unit.config.broken_monitoring import BROKEN_MONITORING
from tests.unit.config.broken_privacy import BROKEN_PRIVACY
from tests.unit.config.broken_settings import BROKEN_SETTINGS
from tests.unit.config.broken_tables import BROKEN_TABLES, COLUMNS, TABLE
from tests.unit.config.broken_transforms import BROKEN_TRANSFORMS
from tests.unit.config.pipeline_texts import SHORT, with_lines

CATALOG = "\n  type: sql\n  uri: sqlite:///catalog.db\n  warehouse: warehouse"

BROKEN = [
    *BROKEN_SETTINGS,
    *BROKEN_TABLES,
    *BROKEN_MONITORING,
    *BROKEN_CHECKS,
    *BROKEN_FORMATS,
    *BROKEN_TRANSFORMS,
    *BROKEN_PRIVACY,
]


@pytest.mark.parametrize(
    ("sections", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_a_broken_file_says_where_and_what_is_right(sections, message):
    with pytest.raises(ConfigError) as raised:
        read_pipeline(with_lines(**sections), "orders.yaml")
    assert str(raised.value) == message
    assert raised.value.kind is ErrorKind.CONFIG_INVALID


def test_every_problem_is_reported_at_once_in_the_order_of_the_file():
    text = with_lines(
        kafka="{bootstrap_servers: 'a:b', topics: [orders, orders]}",
        format="{value: xml}",
        table=f"{COLUMNS}\n  sort_by: [nothing]",
        flush="{max_age: 1y, max_bytes: 1GiB}",
        maintenance="{expiration: {retain_last: 501}}",
    )
    with pytest.raises(ConfigError) as raised:
        read_pipeline(
            text, "orders.yaml", environ={"K2I__WORKERS": "none"}, overrides={"flush.size": "1"}
        )
    assert [line.split(": ")[:2] for line in str(raised.value).splitlines()] == [
        ["orders.yaml:6", "kafka.bootstrap_servers"],
        ["orders.yaml:7", "format.value"],
        ["orders.yaml:16", "table.sort_by[0]"],
        ["orders.yaml:17", "flush.max_age"],
        ["orders.yaml:18", "maintenance.expiration.retain_last"],
        ["command line", "flush.size"],
        ["environment K2I__WORKERS", "workers"],
    ]
    assert raised.value.kind is ErrorKind.CONFIG_INVALID


NOT_YAML = [
    ("a: [1", "orders.yaml:1: is not YAML: expected ',' or ']', but got '<stream end>'"),
    ("a: b: c\n", "orders.yaml:1: is not YAML: mapping values are not allowed here"),
    ("a: 1\n---\nb: 2\n", "orders.yaml:2: is not YAML: but found another document"),
    ("- a\n", "orders.yaml:1: must hold the keys of a pipeline, name, kafka and so on"),
    ("", "orders.yaml:1: must hold the keys of a pipeline, name, kafka and so on"),
    ("a: \x00", "orders.yaml: is not YAML: it holds a character that no text has"),
    ("a: &a [*a]", "orders.yaml:1: is too large or refers to itself by an alias"),
    (
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
            "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
        ),
        "orders.yaml:1: is too large or refers to itself by an alias",
    ),
]


@pytest.mark.parametrize(("text", "message"), NOT_YAML, ids=range(len(NOT_YAML)))
def test_what_is_no_yaml_is_one_error(text, message):
    with pytest.raises(ConfigError) as raised:
        read_pipeline(text, "orders.yaml")
    assert str(raised.value) == message


def test_the_short_file_of_this_table_is_valid_so_that_each_case_breaks_one_thing():
    assert read_pipeline(SHORT, "orders.yaml").name == "orders"
    for table in (TABLE, COLUMNS):
        read_pipeline(with_lines(table=table, catalog=CATALOG), "orders.yaml")
