"""The fault proxy does to real services what its methods say.

Goal: later tests may trust it. Method: an object store behind it; every fault on and off again.
"""

import time
from collections.abc import Iterator

import pytest
import requests
from pyiceberg.catalog import load_catalog

from k2i_core.dev.object_store import ObjectStore
from k2i_core.dev.ports import reserve_port
from tests.services.faults import FaultProxy


@pytest.fixture
def store_proxy(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(int(object_store.catalog_uri.rpartition(":")[2])) as proxy:
        yield proxy


def _ask(proxy: FaultProxy, seconds: float = 5) -> int:
    return requests.get(f"{proxy.url}/v1/config", timeout=seconds).status_code


def test_a_catalog_behind_the_proxy_works(
    object_store: ObjectStore, store_proxy: FaultProxy, namespace: str
) -> None:
    properties = object_store.catalog_properties(catalog_uri=store_proxy.url)
    load_catalog("lake", **properties).create_namespace(namespace)
    assert store_proxy.connection_count > 0
    assert (namespace,) in load_catalog("x", **object_store.catalog_properties()).list_namespaces()


def test_latency_is_added_to_answers(store_proxy: FaultProxy) -> None:
    store_proxy.latency_seconds = 0.4
    began = time.monotonic()
    _ask(store_proxy)
    assert time.monotonic() - began >= 0.4


def test_a_held_connection_times_out_and_answers_after_release(store_proxy: FaultProxy) -> None:
    store_proxy.hold()
    with pytest.raises(requests.ReadTimeout):
        _ask(store_proxy, 0.5)
    store_proxy.release()
    assert _ask(store_proxy) == 200


def test_a_lost_answer_means_that_it_was_done_and_nobody_was_told(
    object_store: ObjectStore, store_proxy: FaultProxy, namespace: str
) -> None:
    direct = load_catalog("direct", **object_store.catalog_properties())
    token = requests.post(
        f"{object_store.catalog_uri}/v1/oauth/tokens",
        data={
            "grant_type": "client_credentials",
            "client_id": object_store.access_key,
            "client_secret": object_store.secret_key,
        },
        timeout=5,
    ).json()["access_token"]
    store_proxy.lose_answers()
    with pytest.raises(requests.ReadTimeout):
        requests.post(
            f"{store_proxy.url}/v1/lake/namespaces",
            json={"namespace": [namespace], "properties": {}},
            headers={"Authorization": f"Bearer {token}"},
            timeout=2,
        )
    assert (namespace,) in direct.list_namespaces()
    store_proxy.heal()
    assert _ask(store_proxy) == 200


def test_refused_connections_come_back_after_healing(store_proxy: FaultProxy) -> None:
    store_proxy.refuse()
    with pytest.raises(requests.ConnectionError):
        _ask(store_proxy)
    store_proxy.heal()
    assert _ask(store_proxy) == 200


def test_a_reset_cuts_open_connections(store_proxy: FaultProxy) -> None:
    with requests.Session() as session:
        session.get(f"{store_proxy.url}/v1/config", timeout=5)
        before = store_proxy.connection_count
        store_proxy.reset()
        session.get(f"{store_proxy.url}/v1/config", timeout=5)
        assert store_proxy.connection_count == before + 1


@pytest.mark.usefixtures("object_store")
def test_a_service_that_is_down_shows_as_a_closed_connection() -> None:
    nobody = reserve_port()
    with FaultProxy(nobody.number) as proxy, pytest.raises(requests.ConnectionError):
        _ask(proxy)
    nobody.release()
