"""What an operator does about a paused table: look, and let it go on."""

from k2i_core.clock import Clock
from k2i_core.config import Pipeline
from k2i_core.errors import ConfigError
from k2i_core.iceberg.decisions import Decision, decide_resume
from k2i_core.iceberg.gateway import TableView
from k2i_core.iceberg.replaying import believed
from k2i_core.ledger import Entry
from k2i_core.pauses import Pause
from k2i_core.records import CommitReport
from k2i_core.wiring.inspection import inspect_target, operator_committer


def find_pause(pipeline: Pipeline) -> Pause:
    """Return why the target table is paused.

    Raises:
        ConfigError: It is not, or does not exist.
        UnavailableError: The catalog did not answer.

    """
    pause = inspect_target(pipeline).view.paused
    if pause is None:
        message = f"table={pipeline.table.identifier} is not paused"
        raise ConfigError(message)
    return pause


def resume(pipeline: Pipeline, clock: Clock, *, accepts: bool) -> CommitReport:
    """Take the pause back; workers that are started from now on go on where it began.

    Args:
        pipeline: Whose table.
        clock: For the commit.
        accepts: Leave it to each record of the schema whether it fits, from now on.

    """

    def decide(view: TableView, stored: Entry | None) -> Decision:
        return decide_resume(view, believed(stored), accepts=accepts)

    return operator_committer(pipeline, pipeline.table.identifier, clock).operate("resume", decide)
