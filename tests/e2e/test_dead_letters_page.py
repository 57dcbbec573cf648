"""Goal: every example on the page about dead letters works as it stands.

Method: take pipeline settings and commands out of the page, in order, run them on a real topic with
the page's records, and compare what they print, where the page shows it.
"""

import re
import shlex
from pathlib import Path

import yaml

from k2i_core.dev.produce import create_topic
from tests.e2e.pipelines import K2I, write_pipeline
from tests.integration.kafka.source_driver import produce
from tests.services.warm_python import ROOT, warm_python

PAGE = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
RECORDS = [b'{"order_id": 1}', b'{"order_id": 2, "coupon": "SPRING"}', b"not json"]
TOPIC = "shop.orders"


def parts() -> list[tuple[str, str]]:
    """The page's blocks in order: language, text."""
    return re.findall(r"^```(yaml|console)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def printed(shown: str) -> re.Pattern[str]:
    """A line of the page, in which `…` stands for anything and a gap for any gap."""
    words = [r".*?" if word == "…" else re.escape(word) for word in shown.split()]
    return re.compile(r"\s*".join(words))


def test_the_examples_work_as_they_are_shown(kafka, tmp_path: Path) -> None:
    servers = kafka.bootstrap_servers
    create_topic(servers, TOPIC, 1)
    pipeline = write_pipeline(tmp_path / "page", servers, TOPIC)
    assert all(record.decode() in PAGE for record in RECORDS)
    produce(servers, TOPIC, RECORDS)
    document = yaml.safe_load(pipeline.path.read_text())
    path = pipeline.directory / "orders.yaml"
    commands: list[str] = []
    for language, text in parts():
        if language == "yaml":
            document |= yaml.safe_load(text)
            path.write_text(yaml.safe_dump(document))
            if not commands:
                ingest = ("ingest", str(path), "--until-caught-up", "--port", "0")
                assert warm_python().run(K2I, *ingest).returncode == 0
            continue
        for block in re.split(r"^\$ k2i ", text, flags=re.MULTILINE)[1:]:
            command, *expected = block.splitlines()
            commands.append(command)
            done = warm_python().run(K2I, *shlex.split(command), cwd=pipeline.directory)
            assert done.returncode == 0, (command, done.stderr)
            for line in filter(None, expected):
                assert printed(line).search(done.stdout), (command, line, done.stdout)
    assert len(commands) >= 8
