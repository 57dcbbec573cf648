"""k2i's errors as Dagster's: what a run says when it cannot do its work."""

import dagster as dg

from k2i_core.errors import ErrorKind, FencedError, K2iError

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
