"""The demo's worker: a run that Dagster's keep-alive sensor starts and a person's click ends.

The demo is that person. What it does here is done over the same interface as the buttons of the
user interface use, and shows there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from k2i_core.clock import Clock
from k2i_core.dev.dagster_client import Check, DagsterClient, Run
from k2i_core.errors import UnavailableError

_READY_SECONDS_MAX = 150.0
"""Larger: a worker that never starts is noticed later. Smaller: a busy machine fails."""

_END_SECONDS_MAX = 120.0
"""Larger: Ctrl-C with a catalog that is down takes longer. Smaller: a last flush on a busy machine
is not waited for, and its rows come only with the next run."""

_OTHERS_SECONDS_MAX = 30.0
"""Larger: Ctrl-C during an audit takes longer. Smaller: the audit is cut off, and shows as such."""

_POLL_SECONDS = 0.3
_FAILURES_MAX = 3
_RUNS_MAX = 200


@dataclass(frozen=True, slots=True)
class DagsterOutcome:
    """What Dagster's pages show when the demo is over.

    Attributes:
        runs: Those of this demo, newest first.
        checks: Every check of every asset.
    """

    runs: tuple[Run, ...]
    checks: tuple[Check, ...]

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """Those that are red."""
        return tuple(check for check in self.checks if check.outcome == "failed")


class DemoWorker:
    """The runs of one pipeline's only worker."""

    def __init__(
        self, pipeline: str, client: DagsterClient, clock: Clock, began_seconds: float
    ) -> None:
        """Remember whom to ask.

        Args:
            pipeline: Its name.
            client: Of the running Dagster.
            clock: For the waits.
            began_seconds: Unix time before Dagster was started: runs made since are this demo's.

        """
        # Dagster's names allow no hyphen.
        self.job = f"ingest_{pipeline.replace('-', '_')}"
        self._pipeline = pipeline
        self._client = client
        self._clock = clock
        self._began_seconds = began_seconds

    def newest_run(self) -> Run | None:
        """Return the newest run, which need not be live.

        Raises:
            UnavailableError: Dagster does not answer.

        """
        return next(iter(self._ingest_runs()), None)

    def status(self, run_id: str) -> str:
        """Return how a recent run is, in Dagster's word; `gone` when it was deleted.

        Raises:
            UnavailableError: Dagster does not answer.

        """
        statuses = (run.status.lower() for run in self._ingest_runs() if run.id == run_id)
        return next(statuses, "gone")

    def wait_until_running(
        self, note: Callable[[str], None], is_stopped: Callable[[], bool]
    ) -> bool:
        """Wait for a run that ingests, and launch one if the last was ended by a person.

        Args:
            note: Told about every run that fails.
            is_stopped: Ends the wait.

        Returns:
            Whether a run ingests; False after a stop.

        Raises:
            UnavailableError: None starts, or they fail one after the other.

        """
        deadline = self._clock.boot_seconds() + _READY_SECONDS_MAX
        has_launched, failed = False, set[str]()
        while not is_stopped():
            runs = self._ingest_runs()
            if any(run.status == "STARTED" for run in runs):
                return True
            if not has_launched and runs and runs[0].status == "CANCELED":
                # The sensor takes that for a person's wish and waits for a person's launch.
                self._client.launch(self.job, {"k2i/worker": f"{self._pipeline}-0"})
                has_launched = True
            for run in runs:
                if run.status == "FAILURE" and self._is_mine(run) and run.id not in failed:
                    failed.add(run.id)
                    note(f"run {run.id[:8]} failed: {self._client.failure(run.id)}")
            if len(failed) >= _FAILURES_MAX or self._clock.boot_seconds() >= deadline:
                message = f"no run of {self.job} gets going failed={len(failed)}"
                raise UnavailableError(message)
            self._clock.sleep(_POLL_SECONDS)
        return False

    def end(self) -> bool:
        """End every ingest run as the UI's button does, and wait for its last flush.

        Other jobs may finish first, for a while.

        Returns:
            Whether all have ended.

        Raises:
            UnavailableError: Dagster does not answer.

        """
        asked, began = set[str](), self._clock.boot_seconds()
        while live := self._client.runs(is_live=True):
            waited = self._clock.boot_seconds() - began
            for run in live:
                # One in the queue would never start: what takes runs from it has ended.
                is_due = (
                    run.job == self.job or run.status == "QUEUED" or waited >= _OTHERS_SECONDS_MAX
                )
                if is_due and run.id not in asked:
                    asked.add(run.id)
                    self._client.terminate(run.id)
            if waited >= _END_SECONDS_MAX:
                return False
            self._clock.sleep(_POLL_SECONDS)
        return True

    def outcome(self) -> DagsterOutcome:
        """Return what Dagster's pages show now.

        Raises:
            UnavailableError: Dagster does not answer.

        """
        runs = tuple(run for run in self._client.runs(limit=_RUNS_MAX) if self._is_mine(run))
        return DagsterOutcome(runs, self._client.checks())

    def _is_mine(self, run: Run) -> bool:
        return run.created_seconds >= self._began_seconds

    def _ingest_runs(self) -> list[Run]:
        return list(self._client.runs(self._pipeline, job=self.job))
