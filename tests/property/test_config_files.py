"""Goal: whatever a pipeline file holds, the answer is a pipeline or one ConfigError.

Method: a valid file with generated values at generated places, and generated texts as YAML.
"""

import copy

from hypothesis import given
from hypothesis import strategies as st

from k2i_core.config import parse_pipeline
from k2i_core.config.document import read_document
from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError
from tests.unit.config.pipeline_texts import SAMPLE

TREE = read_document(SAMPLE, "orders.yaml").tree

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=12),
        st.sampled_from(["earliest", "offsets", "${A}", "30s", "1MiB", "day(a)", "struct<a: int>"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.text(max_size=6),
                st.integers(),
                st.sampled_from(["name", "type", "offsets", "timestamp", "orders"]),
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)


def places(tree, path=()):
    """Every path of the sample, and one unknown key beside each."""
    if isinstance(tree, dict):
        yield (*path, "unknown")
        for key, value in tree.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    if isinstance(tree, list):
        for index, value in enumerate(tree):
            yield (*path, index)
            yield from places(value, (*path, index))


PLACES = sorted(places(TREE), key=str)


def answer(read, *arguments):
    """The pipeline, or the lines of the one error that is allowed."""
    try:
        return read(*arguments), []
    except ConfigError as error:
        return None, str(error).split("\n")


@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_any_value_anywhere_makes_a_pipeline_or_a_config_error(changes):
    tree = copy.deepcopy(TREE)
    for path, value in changes:
        parent = tree
        for part in path[:-1]:
            try:
                parent = parent[part]
            except (KeyError, IndexError, TypeError):
                parent = {}
        if isinstance(parent, dict):
            parent[path[-1]] = value
    pipeline, lines = answer(parse_pipeline, tree)
    assert all(line.startswith("pipeline: ") for line in lines)
    if pipeline:
        again = parse_pipeline(pipeline.redacted())
        assert again.table == pipeline.table
        assert again.monitoring == pipeline.monitoring


@given(st.text(max_size=60))
def test_any_text_is_answered_by_a_config_error(text):
    for content in (text, SAMPLE + text):
        _, lines = answer(read_pipeline, content, "orders.yaml")
        assert all(line.startswith("orders.yaml:") for line in lines)


@given(st.text("abc[]{}:,&*!|>'\"%@`#-? \n0${}", max_size=40))
def test_yaml_of_any_shape_is_answered_by_a_config_error(text):
    _, lines = answer(read_pipeline, f"name: {text}", "orders.yaml")
    assert all(line.startswith("orders.yaml:") for line in lines)
