"""The broker that the demo starts survives what happens on a laptop.

Goal: the same cluster after every kind of end, no second owner of a home, no orphan, and messages
that say what to do. Method: a real broker below a path that is not plain, ended in every way.
"""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer
from k2i_core.dev.produce import fill, next_event_id
from k2i_core.errors import ConfigError, UnavailableError


def assert_listens_on_loopback_only(server: KafkaServer) -> None:
    assert server.pid is not None
    connections = psutil.Process(server.pid).net_connections("inet")
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening


PARENT_THAT_DIES = """
import os, signal, sys
from pathlib import Path
from k2i_core.dev.kafka_jars import KafkaRuntime
from k2i_core.dev.kafka_server import KafkaServer
home, java, *jars = map(Path, sys.argv[1:])
server = KafkaServer(home, runtime=KafkaRuntime(java, tuple(jars))).start()
print(server.pid, server.cluster_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_home_on_loopback_is_the_same_cluster_after_every_kind_of_end(
    tmp_path: Path, kafka_runtime: KafkaRuntime
) -> None:
    home = tmp_path / "with space – and more than ASCII"
    left_behind, cluster_id = left_by_a_crashed_parent(home, kafka_runtime)

    with KafkaServer(home, runtime=kafka_runtime) as server:
        assert left_behind.pid != server.pid
        assert not left_behind.is_running() or left_behind.status() == psutil.STATUS_ZOMBIE
        assert server.cluster_id == cluster_id
        assert_listens_on_loopback_only(server)
        fill(server.bootstrap_servers, "t", 1_000, partition_count=4)
        port = server.port
        server.kill()
        assert server.pid is None
        server.start()
        assert (server.cluster_id, server.port) == (cluster_id, port)
        assert next_event_id(server.bootstrap_servers, "t") == 1_000
    with KafkaServer(home, runtime=kafka_runtime) as later:
        assert later.cluster_id == cluster_id
        assert next_event_id(later.bootstrap_servers, "t") == 1_000
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def left_by_a_crashed_parent(home: Path, runtime: KafkaRuntime) -> tuple[psutil.Process, str]:
    """A broker whose parent has died, and its cluster's id."""
    parent = subprocess.run(
        [sys.executable, "-c", PARENT_THAT_DIES, *map(str, [home, runtime.java, *runtime.jars])],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    pid, cluster_id = parent.stdout.split()
    left_behind = psutil.Process(int(pid))
    assert left_behind.is_running()
    return left_behind, cluster_id


def test_a_port_in_use_is_told_before_anything_is_written(
    tmp_path: Path, kafka_runtime: KafkaRuntime
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = KafkaServer(tmp_path / "kafka", runtime=kafka_runtime, port=port)
        with pytest.raises(ConfigError, match=f"port={port} is in use.*K2I_KAFKA"):
            server.start()
    assert not (tmp_path / "kafka" / "data").exists()


def test_a_setting_that_kafka_refuses_is_told_with_its_reason(
    tmp_path: Path, kafka_runtime: KafkaRuntime
) -> None:
    properties = {"num.io.threads": "many"}
    with pytest.raises(ConfigError, match="refuses its settings") as refused:
        KafkaServer(tmp_path / "kafka", runtime=kafka_runtime, properties=properties).start()
    assert "num.io.threads" in refused.value.__notes__[0]


def test_a_broker_that_ends_while_it_starts_is_told_with_its_log(
    tmp_path: Path, kafka_runtime: KafkaRuntime
) -> None:
    # It counts as formatted, and Kafka finds it damaged.
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "data" / "meta.properties").write_text("cluster.id=other\nversion=1\n")
    server = KafkaServer(tmp_path / "kafka", runtime=kafka_runtime)
    with pytest.raises(UnavailableError, match="ended while starting") as ended:
        server.start()
    assert ended.value.__notes__[0]
    assert server.pid is None
