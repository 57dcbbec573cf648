"""How a run ends that cannot do its work: k2i's errors as Dagster's, ends that others recorded."""

import dagster as dg

from k2i_core.errors import ErrorKind, FencedError, K2iError
from k2i_dagster import run_store
from k2i_dagster.keep_alive import Phase

_ADVICE = {ErrorKind.TABLE_MISSING: "the first flush creates it"}


def failure_of(error: K2iError) -> dg.Failure:
    """Return what to raise, with `from None`, in place of an error.

    Without its cause, because that is another library's exception: Dagster would store its text,
    and only k2i's own texts are known to hold no secret.
    """
    message = str(error)
    if isinstance(error, FencedError):
        message = f"another worker took over: {message}"
    if advice := _ADVICE.get(error.kind):
        message = f"{message}; {advice}"
    return dg.Failure(message, metadata={"kind": error.kind.value}, allow_retries=False)


def raise_if_ended_elsewhere(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> None:
    """End a run as it was ended by others: a success now would overwrite what was recorded."""
    recorded = run_store.find_run(context.instance, context.run.run_id)
    if recorded is None or not recorded.phase.is_live:
        message = "this run was recorded as ended while it ran, so that another could take over"
        raise dg.Failure(message, allow_retries=False)
    if recorded.phase is Phase.ENDING:
        # The interruption itself did not come through, or after the heartbeat had seen it.
        raise dg.DagsterExecutionInterruptedError
