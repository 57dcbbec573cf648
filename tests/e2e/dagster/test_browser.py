"""A person can launch, watch and stop ingestion with nothing but the Dagster UI.

Goal: what the UI promises is there: a launch from the Launchpad with its config, materializations,
checks that pass, plots that are drawn, a graph from topic to audit and maintenance, and a stop with
a last flush.
Method: a real Chromium on a real webserver; every page is kept as a picture below pytest's
temporary directory, or where K2I_TEST_SCREENSHOTS says.
"""

import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from k2i_core.dev.dagster_client import Run
from k2i_core.dev.orders import ORDERS
from k2i_core.dev.produce import EventProducer, create_topic
from k2i_dagster.maintenance_steps import COMPACTION, STEPS
from tests.conftest import Broker
from tests.e2e.dagster.stack import Stack, row_count, running
from tests.e2e.pipelines import PipelineOnDisk, write_pipeline

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

TOPIC = f"orders-{uuid.uuid4().hex[:8]}"
HEALTH_JOB = "measure_health_orders"
NOT_LAUNCHED = ("full_audit", *(step.name for step in STEPS.values() if step is not COMPACTION))
"""Each would take seconds of imports to show on its page what compaction shows on its own."""
PATIENCE_MS = 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        BROWSER is None, reason=f"needs a browser: install one of {', '.join(BROWSERS)}"
    ),
]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, kafka: Broker) -> Iterator[PipelineOnDisk]:
    """A pipeline whose topic gets new orders all the time."""
    directory, bootstrap_servers = tmp_path_factory.mktemp("browser"), kafka.bootstrap_servers
    create_topic(bootstrap_servers, TOPIC, 2)
    changes = {
        "name": "orders",
        "table": {"identifier": "sales.orders", "columns": [dict(c) for c in ORDERS.columns]},
        "orchestration": {
            "publish_every": "4s",
            "audit_schedule": "off",
            "full_audit_schedule": "off",
            "owners": ["team:data"],
            "tags": {"tier": "gold"},
        },
        "monitoring": {"freshness": {"warn": "5m", "fail": "15m"}},
    }
    written = write_pipeline(
        directory / "orders", bootstrap_servers, TOPIC, max_age="2s", changes=changes
    )
    producer = EventProducer(bootstrap_servers, TOPIC, bad_share=0.002)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: producer.run(rate=100, stop=stop), daemon=True)
    thread.start()
    yield written
    stop.set()
    thread.join(60)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, pipeline: PipelineOnDisk) -> Iterator[Stack]:
    """A stack whose worker a person has terminated."""
    home = tmp_path_factory.mktemp("browser_dagster") / "home"
    with running(Stack(home, pipeline.path, name="orders")) as stack:
        run = stack.ensure_worker()
        stack.client.terminate(run.id)
        stack.wait_for(lambda: not stack.run(run.id).is_live)
        yield stack


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        page = browser.new_page(
            base_url=stack.address,
            viewport={"width": 1440, "height": 900},
            timezone_id="UTC",
            reduced_motion="reduce",  # what moves is drawn without a graphics card here
        )
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    directory = Path(os.environ.get("K2I_TEST_SCREENSHOTS") or tmp_path / "screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


class Album:
    """Keeps a picture of every page."""

    def __init__(self, page: Page, directory: Path) -> None:
        self.page = page
        self._directory = directory

    def keep(self, name: str, *texts: str) -> None:
        """Wait until these texts are there, then take the picture."""
        for text in texts:
            expect(self.page.get_by_text(text).first).to_be_visible(timeout=PATIENCE_MS)
        self.page.wait_for_timeout(1_500)  # charts and panels slide in
        self.page.screenshot(path=self._directory / f"{name}.png")


def test_a_person_launches_watches_and_terminates_in_the_browser(
    page: Page, stack: Stack, pipeline: PipelineOnDisk, pictures: Path
) -> None:
    album = Album(page, pictures)

    run = launch_from_the_launchpad(album, stack)
    page.goto("about:blank")  # a run's page draws every event, and nobody looks now
    # Enough materializations for lines on the plots, an audit, and a step of maintenance, after
    # which health is measured again.
    run_to_their_ends(stack, HEALTH_JOB)
    run_to_their_ends(stack, "audit_orders", "compact_orders")
    stack.wait_for(lambda: materialization_count(stack) >= 6)
    outcomes = {
        f"{check.asset}: {check.name}": check.outcome
        for check in stack.client.checks()
        if not check.asset.endswith(NOT_LAUNCHED)
    }
    assert set(outcomes.values()) == {"passed"}, outcomes
    look_at_the_table(album)
    look_at_the_maintenance(album)
    look_around(album)
    terminate(album, stack, run)

    assert row_count(pipeline) > 0


def run_to_their_ends(stack: Stack, *jobs: str) -> None:
    """Launch all of these at once; steps of maintenance wait for each other by themselves."""
    launched = [stack.client.launch(job, {}) for job in jobs]
    stack.wait_for(
        lambda: {run.id for run in stack.client.runs(is_live=True)}.isdisjoint(launched), 300.0
    )
    statuses = {run.job: run.status for run in stack.client.runs() if run.id in launched}
    assert statuses == dict.fromkeys(jobs, "SUCCESS")


def launch_from_the_launchpad(album: Album, stack: Stack) -> Run:
    page = album.page
    page.goto("/locations/k2i/jobs/ingest_orders/playground")
    launch = page.get_by_role("button", name=re.compile("Launch Run$"))
    expect(launch).to_be_enabled(timeout=PATIENCE_MS)
    album.keep("launchpad", "max_run_minutes")
    launch.click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    stack.wait_for(lambda: bool(stack.started()))
    [run] = stack.started()
    assert run.id in page.url
    assert run.worker == "orders-0"
    album.keep("run", "ASSET_MATERIALIZATION")
    return run


def look_at_the_table(album: Album) -> None:
    page = album.page
    page.goto("/assets/sales/orders?view=checks")
    album.keep("checks", "offset_contiguity", "lag", "dead_letter_rate", "schema", "Passed")
    page.goto("/assets/sales/orders/audit?view=checks")
    album.keep("audit_checks", "no_duplicates", "row_counts", "Passed")
    page.goto("/assets/sales/orders?view=events")
    album.keep("events", "snapshot_id", "metadata_location")
    page.goto("/assets/sales/orders")
    album.keep("overview", "Row count", "Freshness policy")
    page.get_by_role("button", name="Plots").click()
    for name in ("rows", "lag_messages", "freshness_seconds", "commit_ms"):
        expect(page.get_by_text(name, exact=True).first).to_be_attached(timeout=PATIENCE_MS)
    expect(page.locator("canvas").first).to_be_visible(timeout=PATIENCE_MS)
    album.keep("plots")


def look_at_the_maintenance(album: Album) -> None:
    page = album.page
    page.goto("/assets/sales/orders/health")
    album.keep("health", "summary", "small_file_share")
    page.get_by_role("button", name="Plots").click()
    for name in ("files", "manifests", "snapshots", "metadata_bytes", "projected_scan_seconds"):
        expect(page.get_by_text(name, exact=True).first).to_be_attached(timeout=PATIENCE_MS)
    expect(page.locator("canvas").first).to_be_visible(timeout=PATIENCE_MS)
    album.keep("health_plots")
    page.goto("/assets/sales/orders/compaction")
    expect(page.get_by_text("files_before").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("Unsynced")).to_have_count(0)
    album.keep("compaction", "files_before", "launched by hand")
    page.goto("/locations/k2i/jobs/compact_orders/playground")
    album.keep("compaction_launchpad", "target_file_bytes")


def look_around(album: Album) -> None:
    page = album.page
    page.set_viewport_size({"width": 1440, "height": 1000})  # four steps, one above the other
    page.goto("/locations/__repository__@k2i/asset-groups/orders/lineage")
    album.keep("graph", "audit", "orders_dead_letters", "health", "compaction", "Materialized")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("/automation")
    album.keep("automation", "keep_alive_orders", "compact_orders_schedule")
    page.goto("/runs")
    album.keep("runs", "ingest_orders", "audit_orders")


def terminate(album: Album, stack: Stack, run: Run) -> None:
    page = album.page
    page.goto(f"/runs/{run.id}")
    page.get_by_role("button", name=re.compile("Terminate")).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=re.compile("Terminate")).click()
    stack.wait_for(lambda: stack.run(run.id).status == "CANCELED")
    page.goto(f"/runs/{run.id}")
    album.keep("terminated", "Canceled")


def materialization_count(stack: Stack) -> int:
    log = (stack.home / "code-server.log").read_text(errors="replace")
    return log.count("ASSET_MATERIALIZATION")
