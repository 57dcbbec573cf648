"""Events at a steady rate, as a process of its own.

    python -m benchmarks.feed HOST:PORT TOPIC RATE COUNT

Ids begin at the topic's end, so that a second feed goes on where the first stopped.
"""

import sys

from k2i_core.dev.orders import FLAT
from k2i_core.dev.produce import EventProducer, next_event_id


def main(bootstrap_servers: str, topic: str, rate: str, count: str) -> None:
    """Send `count` flat events at `rate` a second."""
    producer = EventProducer(
        bootstrap_servers,
        topic,
        event_set=FLAT,
        start_id=next_event_id(bootstrap_servers, topic),
    )
    report = producer.run(rate=float(rate), count=int(count))
    print(f"{report.count} events in {report.seconds:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
