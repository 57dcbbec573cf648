"""Two hundred tables from one topic: how much memory one worker takes, and how long it takes.

Each record names its table by a field; none of the tables is there at the start. Then a second
start, which takes every one of them over.
"""

from pathlib import Path

import yaml
from confluent_kafka import Producer

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Group, Result, at_most, figure
from benchmarks.processes import K2I, prove, run_to_end

TABLE_COUNT = 200
RECORD_COUNT = 200_000
FLUSH = {"max_age": "30s"}
TEXT = "x" * 150
PROVEN = ("many.k0", "many.k199", "many.rest")

RSS_TARGET = at_most(700)


def run(bench: Bench) -> Result:
    """Fill the tables, start again, and prove some of them."""
    record_count = bench.options.rows or RECORD_COUNT
    return Result(
        "many-tables",
        {"rows": record_count, "tables": TABLE_COUNT, "flush": FLUSH},
        (Group(f"{TABLE_COUNT} tables from one topic", _measure(bench, record_count)),),
        ("each worker runs until it has caught up; the first one also makes the tables",),
    )


def _measure(bench: Bench, record_count: int) -> tuple[Figure, ...]:
    topic = bench.empty_topic("many-tables")
    _produce(bench.bootstrap_servers, topic, record_count)
    path = bench.new_pipeline(topic, flush=FLUSH)
    _fill_several(path)
    command = (*K2I, "ingest", str(path), "--until-caught-up", "--port=0")
    bench.say(f"{record_count:,} records into {TABLE_COUNT} tables")
    first, first_seconds = run_to_end(command, path.with_name("first.log"), bench.clock)
    again, again_seconds = run_to_end(command, path.with_name("again.log"), bench.clock)
    for table in PROVEN:
        rows = 0 if table == "many.rest" else record_count // TABLE_COUNT
        prove(path, bench.clock, "--table", table, row_count=rows)
    assert first.usage is not None
    assert again.usage is not None
    return (
        figure("peak RSS", "MB", first.usage.peak_bytes / 1e6, target=RSS_TARGET),
        figure("all tables made and filled", "s", first_seconds),
        figure("processor time", "s", first.usage.cpu_seconds),
        figure("a start with nothing to do", "s", again_seconds),
    )


def _produce(bootstrap_servers: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    for number in range(count):
        value = f'{{"id":{number},"kind":"k{number % TABLE_COUNT}","text":"{TEXT}"}}'
        producer.produce(topic, value.encode())
        if number % 10_000 == 0:
            producer.flush(60)  # before its queue of 100,000 is full
    producer.flush(60)


def _fill_several(path: Path) -> None:
    """Let the pipeline file have several tables instead of one."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    del document["table"]
    match = {"field": "kind", "pattern": "k[0-9]+"}
    document["tables"] = [
        {"identifier": "many.{value}", "match": match, "max_tables": TABLE_COUNT},
        {"identifier": "many.rest"},
    ]
    document["dead_letters"] = {"table": "many.dead_letters"}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
