"""Goal: a client that stopped answering is replaced once, and ended only when nobody waits for it.

Method: the real class over stand-ins that only know whether they were ended, and a clock that the
test moves; that a new client of the library answers where an old one is lost shows the test of
hanging brokers.
"""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from k2i_core.kafka.admin_client import ATTEMPT_SECONDS_MAX, RenewedAdminClient
from tests.fakes.time_and_ids import ScriptedClock


@dataclass(eq=False)
class Client:
    is_ended: bool = False

    def __exit__(self, *_: object) -> None:
        self.is_ended = True


class Library:
    def __init__(self) -> None:
        self.clients: list[Client] = []

    def connect(self) -> Any:
        self.clients.append(Client())
        return self.clients[-1]


@pytest.fixture
def library() -> Library:
    return Library()


def test_two_threads_that_waited_for_one_client_replace_it_once(library):
    admin = RenewedAdminClient(library.connect, ScriptedClock())
    silent = admin.client
    admin.renew(silent)
    admin.renew(silent)
    assert admin.client is not silent
    assert len(library.clients) == 2


def test_a_replaced_client_lives_as_long_as_a_question_may_wait_for_it(library):
    clock = ScriptedClock()
    admin = RenewedAdminClient(library.connect, clock)
    first = cast("Any", admin.client)
    admin.renew(first)
    clock.sleep(ATTEMPT_SECONDS_MAX)
    admin.renew(admin.client)
    assert not first.is_ended
    clock.sleep(ATTEMPT_SECONDS_MAX)
    admin.renew(admin.client)
    assert first.is_ended


def test_closing_ends_the_current_client_and_the_replaced_ones(library):
    admin = RenewedAdminClient(library.connect, ScriptedClock())
    admin.renew(admin.client)
    admin.close()
    assert [client.is_ended for client in library.clients] == [True, True]
