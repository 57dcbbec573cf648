"""The same rows from a full backlog in JSON, in Avro and in Protobuf, side by side, by one worker.

As `throughput`, whose figures these are; the formats take turns in every run, so that a machine
with other work slows all of them alike.
"""

from collections.abc import Sequence

from benchmarks import throughput
from benchmarks.bench import FLUSH, Bench, record_bytes
from benchmarks.encoded_events import avro_events, protobuf_events
from benchmarks.figures import Figure, Group, Result, at_least, figure, merged
from k2i_core.dev.orders import FLAT

AS_FAST_TARGET = at_least(1)


def run(bench: Bench) -> Result:
    """Measure the formats on each path that is here."""
    groups: list[Group] = []
    row_count = bench.options.rows_of(FLAT)
    event_sets = {"json": FLAT, "avro": avro_events(), "protobuf": protobuf_events()}
    for way in bench.paths:
        runs: dict[str, list[Sequence[Figure]]] = {name: [] for name in event_sets}
        for number in range(bench.options.repeat):
            for name, event_set in event_sets.items():
                bench.say(f"{name}, {way}, run {number + 1}")
                runs[name].append(throughput.measure(bench, event_set, row_count, 1, way))
        figures = {name: merged(of_format) for name, of_format in runs.items()}
        for name, event_set in event_sets.items():
            size = round(record_bytes(event_set))
            compared = [] if name == "json" else [_beside_json(figures[name], figures["json"])]
            heading = f"{name}, {row_count:,} rows of {size} B, {way}"
            groups.append(Group(heading, (*figures[name], *compared)))
    return Result(
        "format-throughput",
        {"repeat": bench.options.repeat, "flush": FLUSH, "kafka_partitions": 4},
        tuple(groups),
        (
            "the rows are alike; a generation ends with 128 MiB of records or with 1,000,000",
            "to json: of the runs beside each other",
        ),
    )


def _beside_json(figures: Sequence[Figure], of_json: Sequence[Figure]) -> Figure:
    """Return how many times as fast it is, of the steady rates, which come first."""
    rates = zip(figures[0].values, of_json[0].values, strict=False)
    return figure("steady, to json", "×", *(a / b for a, b in rates), target=AS_FAST_TARGET)
