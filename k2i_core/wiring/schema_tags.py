"""Which columns the tags of the writers' schemas mean, of all schemas seen so far."""

import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from k2i_core.schema.tags import Steps, Tagged
from k2i_core.transform.privacy import BEFORE, Action

_COLUMNS = {"after": (), "before": (BEFORE,), "source": ("__source",)}
"""Fields of a change event → where its columns are."""


class SchemaTags:
    """Learns from schemas; what was tagged once stays so, also in records of other schemas.

    Thread-safe.
    """

    def __init__(self, actions: Mapping[str, Action], *, has_envelope: bool) -> None:
        """Know nothing yet.

        Args:
            actions: Tag → what is done to its fields; of several tags the first one counts.
            has_envelope: Whether records are change events, whose row is a part of them.

        """
        self._actions = actions
        self._has_envelope = has_envelope
        self._lock = threading.Lock()
        # Replaced as a whole, so that any thread reads one or the other.
        self._found: Mapping[Steps, Action] = MappingProxyType({})

    def learn(self, tagged: Iterable[Tagged]) -> None:
        """Take in what a schema tags that records are written with."""
        with self._lock:
            found = dict(self._found)
            for steps, tags in tagged:
                action = next((a for tag, a in self._actions.items() if tag in tags), None)
                if action is not None:
                    found.setdefault(self._column(steps), action)
            found.pop((), None)
            if len(found) > len(self._found):
                self._found = MappingProxyType(found)

    def found(self) -> Mapping[Steps, Action]:
        """Return what is tagged; the same object until there is more."""
        return self._found

    def _column(self, steps: Steps) -> Steps:
        if not self._has_envelope:
            return steps
        first, *rest = steps
        return (*_COLUMNS.get(first, (first,)), *rest)
