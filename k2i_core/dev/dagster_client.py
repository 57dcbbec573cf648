"""What the demo asks of Dagster: its runs, its checks, a launch and an end, over GraphQL.

The engine knows nothing of Dagster, so this speaks HTTP to the webserver and imports none of it.
Names follow k2i's code location: job `ingest_<pipeline>`, tags `k2i/pipeline` and `k2i/worker`.
"""

import http.client
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

from k2i_core.dev.ports import LOOPBACK
from k2i_core.errors import UnavailableError

LOCATION = "k2i"
REPOSITORY = "__repository__"

_ANSWER_SECONDS_MAX = 20.0
"""Larger: a hanging webserver holds the panel up longer. Smaller: its first answers, for which it
loads a good part of itself, fail on a busy machine."""

_LIVE = frozenset({"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"})

_UNREACHABLE = "Could not reach user code server"
_RELOAD = f"""mutation {{
    reloadRepositoryLocation(repositoryLocationName: "{LOCATION}") {{ __typename }} }}"""
_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } } }"""
_RUNS = """query($filter: RunsFilter, $limit: Int) { runsOrError(filter: $filter, limit: $limit) {
  ... on Runs { results { runId jobName status creationTime startTime tags { key value } } } } }"""
_LAUNCH = """mutation($execution: ExecutionParams!) { launchRun(executionParams: $execution) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename
  ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
_FAILURE = """query($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection {
  events { __typename ... on MessageEvent { message } ... on ErrorEvent { error { message } }
  } } } }"""
_CHECKS = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
  name executionForLatestMaterialization { runId status
    evaluation { severity success } } } } } } }"""


_RUNS_LOOKED_AT = 100
"""Newest runs among which the canceled ones are looked for: a check that a canceled run did not
come to was not evaluated, and has not failed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        id: Dagster's.
        job: Its job's name.
        status: As Dagster writes it: STARTED, FAILURE, …
        worker: Pipeline and share, as in the tag; empty when it has none.
        created_seconds: Unix time.
        start_seconds: Unix time; None before it has started.
    """

    id: str
    job: str
    status: str
    worker: str
    created_seconds: float
    start_seconds: float | None

    @property
    def is_live(self) -> bool:
        """Tell whether it has not ended."""
        return self.status in _LIVE


@dataclass(frozen=True, slots=True)
class Check:
    """How an asset's check stands for the latest materialization.

    Attributes:
        asset: Its key, joined by slashes.
        name: Of the check.
        outcome: `passed`, `warned`, `failed`, `running`, or `not evaluated`.
    """

    asset: str
    name: str
    outcome: str


class DagsterClient:
    """Asks one webserver on this machine."""

    def __init__(self, port: int) -> None:
        """Remember the port; nothing is asked yet."""
        self._port = port

    def location_state(self) -> tuple[bool, str]:
        """Tell whether the code location is loaded, and if it failed to, why.

        A code server that listens and does not answer yet is asked again: the webserver tries once.

        Raises:
            UnavailableError: The webserver does not answer (yet).

        """
        answer = self.ask(_LOCATIONS)
        entries = cast(
            "list[dict[str, object]]", _inside(answer, "workspaceOrError")["locationEntries"]
        )
        for entry in entries:
            found = cast("dict[str, str] | None", entry["locationOrLoadError"])
            if entry["name"] == LOCATION and entry["loadStatus"] == "LOADED" and found:
                problem = found.get("message", "")
                if _UNREACHABLE in problem:
                    self.ask(_RELOAD)
                    return False, ""
                return found["__typename"] == "RepositoryLocation", problem
        return False, ""

    def runs(
        self,
        pipeline: str | None = None,
        *,
        job: str | None = None,
        is_live: bool = False,
        limit: int = 20,
    ) -> tuple[Run, ...]:
        """Return the newest runs, newest first.

        Args:
            pipeline: Only of this one.
            job: Only of this one.
            is_live: Only runs that have not ended.
            limit: At most so many.

        Raises:
            UnavailableError: The webserver does not answer.

        """
        tags = [{"key": "k2i/pipeline", "value": pipeline}] if pipeline else []
        wanted: dict[str, object] = {"tags": tags, "pipelineName": job}
        if is_live:
            wanted["statuses"] = sorted(_LIVE)
        answer = self.ask(_RUNS, {"filter": wanted, "limit": limit})
        results = cast("list[dict[str, object]]", _inside(answer, "runsOrError")["results"])
        return tuple(map(_read_run, results))

    def launch(self, job: str, tags: Mapping[str, str]) -> str:
        """Launch a job with its default config, as a person does in the Launchpad.

        Returns:
            The run's id.

        Raises:
            UnavailableError: It was refused, or the webserver does not answer.

        """
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "jobName": job,
        }
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        execution = {
            "selector": selector,
            "runConfigData": {},
            "executionMetadata": {"tags": pairs},
        }
        answer = _inside(self.ask(_LAUNCH, {"execution": execution}), "launchRun")
        run = cast("dict[str, str] | None", answer.get("run"))
        if run is None:
            message = f"dagster does not launch job={job}: {_reason(answer)}"
            raise UnavailableError(message)
        return run["runId"]

    def terminate(self, run_id: str) -> None:
        """Ask a run to end, as the button in the UI does; harmless when it has ended.

        Raises:
            UnavailableError: The webserver does not answer.

        """
        # A refusal means that the run has just ended or cannot be reached; whoever waits for its
        # end sees which.
        self.ask(_TERMINATE, {"id": run_id})

    def failure(self, run_id: str) -> str:
        """Return why a run failed, in one line; empty when its log does not say.

        Raises:
            UnavailableError: The webserver does not answer.

        """
        answer = _inside(self.ask(_FAILURE, {"id": run_id}), "logsForRun")
        events = cast("list[dict[str, object]]", answer.get("events", []))
        reason = ""
        for event in events:
            error = cast("dict[str, str] | None", event.get("error"))
            if error:
                reason = error["message"]
            elif event["__typename"] == "RunFailureEvent" and not reason:
                reason = str(event.get("message", ""))
        return " ".join(reason.split())

    def checks(self) -> tuple[Check, ...]:
        """Return every check of every asset.

        Raises:
            UnavailableError: The webserver does not answer.

        """
        nodes = cast("list[dict[str, object]]", self.ask(_CHECKS)["assetNodes"])
        canceled = {run.id for run in self.runs(limit=_RUNS_LOOKED_AT) if run.status == "CANCELED"}
        found: list[Check] = []
        for node in nodes:
            key = "/".join(cast("dict[str, list[str]]", node["assetKey"])["path"])
            of_asset = cast("dict[str, list[dict[str, object]]]", node["assetChecksOrError"])
            found += [
                Check(key, str(check["name"]), _outcome(check, canceled))
                for check in of_asset.get("checks", [])
            ]
        return tuple(found)

    def ask(self, query: str, variables: Mapping[str, object] | None = None) -> dict[str, object]:
        """Ask in GraphQL and return the data.

        Raises:
            UnavailableError: Dagster does not answer, or refuses the question.

        """
        body = json.dumps({"query": query, "variables": variables or {}})
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=_ANSWER_SECONDS_MAX)
        try:
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            answer: dict[str, object] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            message = f"dagster's webserver does not answer port={self._port}"
            raise UnavailableError(message) from error
        finally:
            connection.close()
        if answer.get("errors"):
            message = f"dagster's webserver refuses a question: {answer['errors']}"
            raise UnavailableError(message)
        return cast("dict[str, object]", answer["data"])


def _inside(answer: Mapping[str, object], key: str) -> dict[str, object]:
    return cast("dict[str, object]", answer[key])


def _reason(answer: Mapping[str, object]) -> str:
    return str(answer.get("message") or answer.get("__typename"))


def _read_run(result: Mapping[str, object]) -> Run:
    tags = {tag["key"]: tag["value"] for tag in cast("list[dict[str, str]]", result["tags"])}
    return Run(
        id=str(result["runId"]),
        job=str(result["jobName"]),
        status=str(result["status"]),
        worker=tags.get("k2i/worker", ""),
        created_seconds=cast("float", result["creationTime"]),
        start_seconds=cast("float | None", result["startTime"]),
    )


def _outcome(check: Mapping[str, object], canceled: Collection[str]) -> str:
    execution = cast("dict[str, object] | None", check["executionForLatestMaterialization"])
    if execution is None:
        return "not evaluated"
    evaluation = cast("dict[str, object] | None", execution["evaluation"])
    if evaluation is None:
        if execution["runId"] in canceled:
            return "not evaluated"
        return "running" if execution["status"] == "IN_PROGRESS" else "failed"
    if evaluation["success"]:
        return "passed"
    return "warned" if evaluation["severity"] == "WARN" else "failed"
