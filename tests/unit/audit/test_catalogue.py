"""The list of checks, and the page that explains them.

Goal: no check is evaluated that the page does not explain, and the page's example is valid.
Method: read the page as text.
"""

import re
from pathlib import Path

import yaml

from k2i_core.audit.catalogue import CATALOGUE, specs_of
from k2i_core.config.load import read_pipeline
from tests.unit.config.pipeline_texts import SHORT

PAGE = (Path(__file__).parents[3] / "docs" / "checks.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([a-z_]+)` (⚠ )?\|", PAGE, re.MULTILINE))
(EXAMPLE,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_explains_every_check_and_marks_the_warnings():
    assert {name: not mark for name, mark in ROWS.items()} == {
        name: spec.is_error for name, spec in CATALOGUE.items()
    }


def test_the_pages_example_is_valid_and_each_check_is_asked_by_the_right_audit():
    pipeline = read_pipeline(SHORT + EXAMPLE, "orders.yaml")
    names = [check["name"] for check in yaml.safe_load(EXAMPLE)["checks"]]
    new = [spec.name for spec in specs_of(pipeline, is_full=False)]
    full = {spec.name: spec.is_error for spec in specs_of(pipeline, is_full=True)}

    assert new[-2:] == names[:2]
    assert list(full)[-3:] == names
    assert [full[name] for name in names] == [True, False, True]
    assert "unique_key" in full
    assert "unique_key" not in new
