"""Goal: every example on the page about fresh rows works as it stands.

Method: take pipeline file, commands and Python out of the page, in order, and run them beside a
worker that has not committed the rows yet.
"""

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from k2i_core.config.load import read_pipeline
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import EventProducer
from tests.e2e.pipelines import K2I, ended, eventually, write_pipeline
from tests.services.warm_python import ROOT, warm_python

PAGE = (ROOT / "docs" / "reading-fresh-rows.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


SHOWN_PORT = "8815"


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Run the server as the page starts it, but on a free port; yields the port."""
    (line,) = re.findall(r"^\$ k2i (serve .*)$", PAGE, re.MULTILINE)
    said = directory / "serve.log"
    with said.open("wb") as output:
        command = (K2I, *shlex.split(line), "--port=0", "--port-file=serve.port")
        server = warm_python().start(*command, cwd=directory, output=output)
    try:
        port_file = directory / "serve.port"
        eventually(lambda: port_file.exists() or server.poll() is not None)
        assert server.poll() is None, said.read_text()
        yield port_file.read_text().strip()
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0, said.read_text()
    finally:
        server.kill()
        server.wait()


def test_the_examples_work(kafka, topic, tmp_path: Path) -> None:
    shown, serve = blocks("yaml")
    assert read_pipeline(shown, "page").hot.enabled
    assert "serve" in yaml.safe_load(serve)
    token = serve.replace("${file:/run/secrets/k2i-token}", "the-token-of-this-server")
    assert read_pipeline(shown + token, "page").serve.host == "0.0.0.0"
    for untried in blocks("python no-server"):
        compile(untried, "page", "exec")
    name = topic(partition_count=2)
    sales = {"identifier": "sales.orders", "columns": [dict(c) for c in ORDERS.columns]}
    pipeline = write_pipeline(
        tmp_path / "page",
        kafka.bootstrap_servers,
        name,
        event_set=ORDERS,
        max_age="60s",
        changes={"table": sales},
    )
    (pipeline.directory / "orders.yaml").write_text(
        yaml.safe_dump(yaml.safe_load(pipeline.path.read_text()))
    )
    EventProducer(kafka.bootstrap_servers, name).run(rate=1e9, count=50)
    worker = pipeline.start_worker()
    with ended(worker):
        worker.wait_for_flushes(1)
        EventProducer(kafka.bootstrap_servers, name, start_id=50).run(rate=1e9, count=50)
        program = "".join(blocks("python")) + "\nprint('rows seen', frame.height)\n"

        def sees_everything(port: str) -> bool:
            done = subprocess.run(
                [sys.executable, "-c", program.replace(SHOWN_PORT, port)],
                cwd=pipeline.directory,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return "rows seen 100" in done.stdout

        with serving(pipeline.directory) as port:
            eventually(lambda: sees_everything(port), 60)
        for line in re.findall(r"^\$ k2i (.*?)\s*(?:#.*)?$", PAGE, re.MULTILINE):
            if line.startswith("serve"):
                continue
            done = warm_python().run(K2I, *shlex.split(line), cwd=pipeline.directory)
            assert done.returncode == 0, (line, done.stderr)
