"""What a registry may answer, and what is made of each answer.

Goal: no answer is waited for without end; what can pass is asked again and then called
unavailable, never a verdict on a record; what the registry does not have is one; what only
a change of settings cures says so, without a secret.
Method: a server on loopback that answers as the test tells it to, and the real client.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    header_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from k2i_core.clock import SystemClock
from k2i_core.decode.avro_decoder import AvroReader
from k2i_core.decode.record_decoder import Part, RecordDecoder
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.records import POLLED_SCHEMA
from k2i_core.registry.client import RegistryClient, RegistrySettings
from k2i_core.registry.schemas import RegistrySchemas
from k2i_core.schema.registered import NamedText, NoSuchSchema, SchemaLanguage, WriterSchema

Answer = tuple[int, Any]


@dataclass
class Stub:
    """Answers by path; a list is worked off, its last answer stays."""

    url: str = ""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    behave: Callable[[BaseHTTPRequestHandler], bool] = lambda _: False

    def schemas(self, **settings: Any) -> RegistrySchemas:
        chosen = RegistrySettings(
            url=self.url, **{"request_seconds_max": 0.5, "seconds_max": 0.7, **settings}
        )
        return RegistrySchemas(RegistryClient(chosen, SystemClock()), chosen, SystemClock())


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.asked.append(self.path)
            if stub.behave(self):
                return
            answers = stub.answers.get(self.path, [(404, {"error_code": 40403, "message": "no"})])
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(Stub()) as made:
        yield made


AVRO = {"schema": '"string"'}
ONE = frozenset({1})


def test_a_schema_is_asked_for_once(stub: Stub) -> None:
    stub.answers["/schemas/ids/1"] = [(200, AVRO)]
    schemas = stub.schemas()
    assert schemas.find(1) is None
    schemas.fetch(ONE)
    schemas.fetch(ONE)
    assert schemas.find(1) == WriterSchema(1, SchemaLanguage.AVRO, '"string"')
    assert stub.asked == ["/schemas/ids/1"]


def test_references_come_before_what_refers_to_them(stub: Stub) -> None:
    def refer(name: str) -> dict[str, Any]:
        return {"name": name, "subject": f"s/{name}", "version": 2}

    stub.answers["/schemas/ids/1"] = [
        (200, {"schemaType": "PROTOBUF", "schema": "top", "references": [refer("b"), refer("a")]})
    ]
    stub.answers["/subjects/s%2Fa/versions/2"] = [(200, {"schema": "A"})]
    stub.answers["/subjects/s%2Fb/versions/2"] = [
        (200, {"schema": "B", "references": [refer("a")]})
    ]
    schemas = stub.schemas()
    schemas.fetch(ONE)
    found = schemas.find(1)
    assert isinstance(found, WriterSchema)
    assert found.references == (NamedText("a", "A"), NamedText("b", "B"))


@pytest.mark.parametrize(
    "answer",
    [
        (404, {"error_code": 40403}),
        (200, {"schema": "x", "schemaType": "XML"}),
        (
            200,
            {"schema": "x", "references": [{"name": "a", "subject": "gone", "version": 1}]},
        ),
    ],
    ids=["no such id", "a strange language", "a reference to nothing"],
)
def test_what_the_registry_does_not_have_is_a_verdict_for_a_while(
    stub: Stub, answer: Answer
) -> None:
    stub.answers["/schemas/ids/1"] = [answer, (200, AVRO)]
    schemas = stub.schemas(cache_seconds=0.2)
    schemas.fetch(ONE)
    assert isinstance(schemas.find(1), NoSuchSchema)
    SystemClock().sleep(0.3)
    assert schemas.find(1) is None
    schemas.fetch(ONE)
    assert isinstance(schemas.find(1), WriterSchema)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_can_pass_is_asked_again(stub: Stub, status: int) -> None:
    stub.answers["/schemas/ids/1"] = [(status, {}), (200, AVRO)]
    schemas = stub.schemas()
    schemas.fetch(ONE)
    assert isinstance(schemas.find(1), WriterSchema)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_does_not_pass_is_unavailable_and_no_verdict(stub: Stub, status: int) -> None:
    stub.answers["/schemas/ids/1"] = [(status, {})]
    schemas = stub.schemas()
    with pytest.raises(UnavailableError, match=str(status)):
        schemas.fetch(ONE)
    assert schemas.find(1) is None
    assert 2 <= len(stub.asked) <= 4


@pytest.mark.parametrize(
    "answer",
    [
        (403, {}),
        (404, b"<html>no such page</html>"),
        (302, b""),
        (200, b"<html>a portal</html>"),
        (200, {"error": "none of a registry"}),
    ],
    ids=["403", "404 of another server", "redirect", "no json", "another shape"],
)
def test_what_only_settings_cure_says_so_and_shows_no_secret(stub: Stub, answer: Answer) -> None:
    stub.answers["/schemas/ids/1"] = [answer]
    schemas = stub.schemas(user="k2i", password="open sesame")
    with pytest.raises(ConfigError) as raised:
        schemas.fetch(ONE)
    assert "open sesame" not in str(raised.value)
    assert "check" in str(raised.value)
    assert len(stub.asked) == 1


def test_nobody_listening_is_unavailable() -> None:
    with serving(Stub()) as gone:
        schemas = gone.schemas()
    with pytest.raises(UnavailableError):
        schemas.fetch(ONE)


def test_a_connection_that_ends_in_the_middle_of_tls_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        schemas = Stub(f"https://127.0.0.1:{server.getsockname()[1]}").schemas(seconds_max=0.0)
        with pytest.raises(UnavailableError, match="certificate_file"):
            schemas.fetch(ONE)
        thread.join(5)


def test_an_answer_that_does_not_come_or_does_not_end_is_given_up(stub: Stub) -> None:
    clock, stop = SystemClock(), threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            try:
                handler.wfile.write(b" ")
            except OSError:
                break
        return True

    try:
        for behave in (drip, lambda _: stop.wait(5) or True):
            stub.behave = behave
            started = clock.boot_seconds()
            with pytest.raises(UnavailableError):
                stub.schemas().fetch(ONE)
            assert clock.boot_seconds() - started < 4
    finally:
        stop.set()


def test_a_certificate_that_is_not_there_is_a_wrong_setting(tmp_path: Any) -> None:
    settings = RegistrySettings(url="https://127.0.0.1:1", ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="certificate"):
        RegistryClient(settings, SystemClock())


def test_the_latest_schema_of_a_subject_or_none(stub: Stub) -> None:
    stub.answers["/subjects/orders-value/versions/latest"] = [(200, {**AVRO, "id": 7})]
    schemas = stub.schemas()
    assert schemas.latest("orders-value") == WriterSchema(7, SchemaLanguage.AVRO, '"string"')
    assert schemas.latest("other-value") is None


def test_records_of_confluents_header_serializer_are_rows(stub: Stub) -> None:
    text = json.dumps({"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}]})
    client = SchemaRegistryClient.new_client({"url": "mock://headers"})
    client.register_schema("orders-value", Schema(text, "AVRO"))
    conf = {"schema.id.serializer": header_schema_id_serializer, "auto.register.schemas": False}
    serialize = AvroSerializer(client, text, conf=conf)
    sent: list[dict[str, Any]] = []
    for number in range(3):
        headers: list[tuple[str, bytes]] = [("trace", b"1")]
        context = SerializationContext("orders", MessageField.VALUE, headers)
        value = serialize({"id": number}, context)
        spelled = [{"key": key, "value": each} for key, each in headers]
        where = {"topic": "orders", "partition": 0, "offset": number}
        sent.append({**where, "value": value, "headers": spelled})
    guid = UUID(bytes=sent[0]["headers"][-1]["value"][1:])
    stub.answers[f"/schemas/guids/{guid}"] = [(200, {"schema": text})]

    schemas = stub.schemas()
    columns = pa.schema([pa.field("id", pa.int64())])
    part = Part(SchemaDecoder(columns, schemas, AvroReader), reads_headers=True)
    decoder = RecordDecoder(columns, part)
    records = pa.RecordBatch.from_pylist(sent, schema=POLLED_SCHEMA)
    missing = decoder.decode(records).missing_schema_ids
    assert missing == {guid}
    schemas.fetch(missing)
    assert decoder.decode(records).rows.to_pylist() == [{"id": number} for number in range(3)]


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_registry_that_knows_no_guids_has_no_schema_of_one(stub: Stub, status: int) -> None:
    guid = UUID(int=1)
    stub.answers[f"/schemas/guids/{guid}"] = [(status, b"<html>no such page</html>")]
    schemas = stub.schemas()
    schemas.fetch(frozenset({guid}))
    assert isinstance(schemas.find(guid), NoSuchSchema)
