"""What is shipped for running k2i in Dagster.

Goal: files that no test machine can run are right where that can be read off them, and say the
same as each other. Method: parse them, and hold each rule over every service; the same commands
are started as plain processes in tests/e2e/dagster.
"""

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2i_core.config import load_pipeline

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENDING = {"topic"}
"""Services that are done at some time."""

CANCEL_SECONDS = yaml.safe_load((ROOT / "dagster.yaml").read_text())["run_monitoring"][
    "cancel_timeout_seconds"
]

ALL_SERVICES = pytest.mark.parametrize("name", SERVICES)
DAGSTER_SERVICES = ("code-server", "webserver", "daemon")


def seconds(text: str) -> int:
    match = re.fullmatch(r"(?:(\d+)min|(\d+)m)?(?:(\d+)s)?", text)
    assert match, text
    return 60 * int(match[1] or match[2] or 0) + int(match[3] or 0)


@ALL_SERVICES
def test_an_image_is_pinned_to_a_release(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")

    assert image
    assert re.match(r"\d+\.\d+", tag), tag


@ALL_SERVICES
def test_a_port_is_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port
    assert "network_mode" not in SERVICES[name]


@ALL_SERVICES
def test_a_service_that_stays_tells_how_it_is_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    if name in ENDING:
        assert "healthcheck" not in service
        assert service["restart"] == "on-failure"
        return
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert check["retries"] > 0
    assert service["restart"] == "unless-stopped"


@ALL_SERVICES
def test_a_service_waits_until_what_it_needs_is_ready(name: str) -> None:
    for other, needed in SERVICES[name].get("depends_on", {}).items():
        assert other in SERVICES
        ready = "service_completed_successfully" if other in ENDING else "service_healthy"
        assert needed == {"condition": ready}


@ALL_SERVICES
def test_what_is_kept_lies_in_a_declared_volume(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_every_declared_volume_is_used() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}

    assert set(COMPOSE["volumes"]) <= used


def test_a_stop_is_longer_than_the_last_flush() -> None:
    assert seconds(SERVICES["code-server"]["stop_grace_period"]) > CANCEL_SECONDS
    assert seconds(unit("code-server")["Service"]["TimeoutStopSec"]) > CANCEL_SECONDS
    docker = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tini", "-g", "--"]' in docker
    assert re.search(r"^USER k2i$", docker, re.MULTILINE)


def test_the_image_gets_every_file_that_it_copies() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")
    }
    copied: set[str] = set()
    for line in re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        copied |= set(line.split()[:-1])

    assert copied == allowed
    # The package itself is not in the repository before its first file is.
    assert all((ROOT / name).exists() for name in copied)


def test_all_three_parts_find_the_same_instance_and_code_server() -> None:
    workspace = yaml.safe_load((ROOT / "deploy" / "workspace.yaml").read_text())
    instance = yaml.safe_load((ROOT / "deploy" / "dagster-postgres.yaml").read_text())
    postgres = instance["storage"]["postgres"]["postgres_db"]
    [location] = workspace["load_from"]
    settings = [*postgres.values(), *location["grpc_server"].values()]
    read = {setting["env"] for setting in settings if isinstance(setting, dict)}

    for name in DAGSTER_SERVICES:
        assert read <= set(SERVICES[name]["environment"]), name
    command = SERVICES["code-server"]["command"]
    assert location["grpc_server"]["location_name"] == argument(command, "--location-name")
    port = SERVICES["code-server"]["environment"]["K2I_CODE_SERVER_PORT"]
    assert port == argument(command, "-p") == argument(healthcheck("code-server"), "-p")
    assert SERVICES["code-server"]["environment"]["K2I_CODE_SERVER_HOST"] == "code-server"
    assert postgres["scheme"] == "postgresql+psycopg2"


def test_both_instances_differ_in_their_storage_only() -> None:
    local = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    postgres = yaml.safe_load((ROOT / "deploy" / "dagster-postgres.yaml").read_text())
    for key in ("storage", "local_artifact_storage"):
        local.pop(key, None)
        postgres.pop(key, None)

    assert local == postgres


def test_compose_and_systemd_start_the_same_commands() -> None:
    for name in DAGSTER_SERVICES:
        program, *arguments = shlex.split(unit(name)["Service"]["ExecStart"])
        in_compose = SERVICES[name]["command"]
        outside = ["127.0.0.1" if word == "0.0.0.0" else word for word in in_compose]
        assert [Path(program).name, *arguments] == outside


def test_the_pipeline_is_valid_with_what_the_code_server_gets() -> None:
    given = {
        key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
        for key, value in SERVICES["code-server"]["environment"].items()
    }

    pipeline = load_pipeline(ROOT / "deploy" / "pipelines" / "orders.yaml", environ=given)

    assert pipeline.kafka.bootstrap_servers == "kafka:9092"
    properties = pipeline.catalog.properties.reveal()
    store = SERVICES["seaweedfs"]["command"]
    assert properties["uri"] == f"http://seaweedfs:{equals(store, '-s3.port.iceberg')}"
    assert properties["s3.endpoint"] == f"http://seaweedfs:{equals(store, '-s3.port')}"
    assert properties["warehouse"] == f"s3://{equals(store, '-tableBucket')}"
    [topic] = pipeline.kafka.topics
    assert topic == equals(SERVICES["topic"]["command"], "--topic")
    mounts = [volume.split(":")[1] for volume in SERVICES["code-server"]["volumes"]]
    assert given["K2I_STATE"] in mounts


def argument(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def equals(command: list[str], option: str) -> str:
    [value] = [word.partition("=")[2] for word in command if word.startswith(f"{option}=")]
    return value


def healthcheck(name: str) -> list[str]:
    return SERVICES[name]["healthcheck"]["test"]


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment] # systemd's keys are written as they are
    parser.read(ROOT / "deploy" / "systemd" / f"k2i-{name}.service")
    return parser
