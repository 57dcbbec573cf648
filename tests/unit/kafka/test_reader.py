"""Reading one assignment.

Goal: positions and records tell the same story at every poll, nothing is skipped by an error, and
no poll is larger than its limits.
Method: a scripted consumer hands out librdkafka's own message objects, in the pieces that
librdkafka would.
"""

from collections.abc import Iterable

import pytest
from confluent_kafka import KafkaError, Message

from k2i_core.errors import ConfigError, DataLossError, ErrorKind, UnavailableError
from k2i_core.kafka.queue import MessageQueue
from k2i_core.kafka.reader import PartitionReader
from k2i_core.kafka.settings import KafkaSettings, Secrets
from k2i_core.offsets import OffsetRange, TopicPartition, Watermarks
from tests.fakes.time_and_ids import ScriptedClock

ZERO = TopicPartition("orders", 0)
ONE = TopicPartition("orders", 1)


def record(offset: int, partition: int = 0, value: bytes = b"{}") -> Message:
    return Message(
        topic="orders", partition=partition, offset=offset, value=value, timestamp=(1, 5)
    )


def failure(code: int, offset: int = -1001, partition: int = 0, *, fatal: bool = False) -> Message:
    return Message(
        topic="orders",
        partition=partition,
        offset=offset,
        value=b"why",
        error=KafkaError(code, "why", fatal=fatal),
    )


def end(offset: int, partition: int = 0) -> Message:
    return failure(KafkaError._PARTITION_EOF, offset, partition)


class ScriptedConsumer:
    """Has messages arrive at known times; waiting moves the clock."""

    def __init__(self, clock: ScriptedClock, messages: Iterable[Message]) -> None:
        self.clock = clock
        self.queue = list(messages)
        self.later: list[tuple[float, Message]] = []
        self.calls: list[tuple[int, float]] = []

    def consume(self, num_messages: int, timeout: float, /) -> list[Message]:
        self.calls.append((num_messages, timeout))
        until = self.clock.seconds + timeout
        self._arrive()
        while len(self.queue) < num_messages and self.later and self.later[0][0] <= until:
            self.clock.seconds = max(self.clock.seconds, self.later[0][0])
            self._arrive()
        if len(self.queue) < num_messages:
            self.clock.seconds = until
        taken, self.queue = self.queue[:num_messages], self.queue[num_messages:]
        return taken

    def _arrive(self) -> None:
        while self.later and self.later[0][0] <= self.clock.seconds:
            self.queue.append(self.later.pop(0)[1])


class Seen:
    """Remembers what a reader reported."""

    def __init__(self) -> None:
        self.heard_count = 0
        self.errors: list[str] = []
        self.topic_doubt = False

    def heard(self) -> None:
        self.heard_count += 1

    def on_error(self, error: KafkaError) -> None:
        self.errors.append(error.name())
        self.topic_doubt = error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART

    def warn(self, about: str, event: str, **values: object) -> None:
        self.errors.append(f"{about}: {event} {values}")

    def take_topic_doubt(self) -> bool:
        doubt, self.topic_doubt = self.topic_doubt, False
        return doubt


class Scene:
    """A reader at offset 10 of partition 0 and 20 of partition 1, with everything around it."""

    def __init__(
        self,
        *messages: Message,
        poll_bytes_max: int = 1_000_000,
        poll_records_max: int = 1_000,
        watermarks: Watermarks | None = None,
        topic_problem: Exception | None = None,
    ) -> None:
        self.clock = ScriptedClock()
        self.consumer = ScriptedConsumer(self.clock, messages)
        self.seen = Seen()
        self.topic_checks = 0
        self.topic_problem = topic_problem
        self.reader = PartitionReader(
            MessageQueue(self.consumer, "orders"),
            {ZERO: 10, ONE: 20},
            settings=KafkaSettings(
                bootstrap_servers="x",
                group_id="x",
                topics=("orders",),
                poll_bytes_max=poll_bytes_max,
                poll_records_max=poll_records_max,
                poll_linger_seconds=0.01,
            ),
            clock=self.clock,
            errors=self.seen,
            secrets=Secrets({}),
            watermarks=lambda _: watermarks,
            check_topics=self.check_topics,
        )

    def check_topics(self) -> None:
        self.topic_checks += 1
        if self.topic_problem is not None:
            raise self.topic_problem

    def offsets(self) -> list[int]:
        batch = self.reader.poll(1.0)
        return [] if batch is None else batch.records.column("offset").to_pylist()


def test_a_range_goes_from_the_old_position_to_after_the_last_record() -> None:
    scene = Scene(record(12), record(15), record(20, 1))

    batch = scene.reader.poll(1.0)

    assert batch is not None
    assert batch.ranges == (OffsetRange(ZERO, 10, 16), OffsetRange(ONE, 20, 21))
    assert scene.reader.positions == {ZERO: 16, ONE: 21}


def test_ranges_are_contiguous_from_poll_to_poll() -> None:
    scene = Scene(record(12), poll_records_max=1)
    first = scene.reader.poll(1.0)
    scene.consumer.queue = [record(30)]

    second = scene.reader.poll(1.0)

    assert first is not None
    assert second is not None
    assert first.ranges == (OffsetRange(ZERO, 10, 13),)
    assert second.ranges == (OffsetRange(ZERO, 13, 31),)


def test_the_end_of_the_log_moves_the_position_without_records() -> None:
    scene = Scene(end(17))

    batch = scene.reader.poll(1.0)

    assert batch is not None
    assert batch.records.num_rows == 0
    assert batch.byte_count == 0
    assert batch.ranges == (OffsetRange(ZERO, 10, 17),)


def test_the_end_passes_what_follows_the_last_record() -> None:
    scene = Scene(record(12), end(17), record(20, 1))

    batch = scene.reader.poll(1.0)

    assert batch is not None
    assert batch.ranges == (OffsetRange(ZERO, 10, 17), OffsetRange(ONE, 20, 21))
    assert batch.records.num_rows == 2


def test_records_after_an_end_move_the_position_on() -> None:
    scene = Scene(end(17), record(17), record(18))

    batch = scene.reader.poll(1.0)

    assert batch is not None
    assert batch.ranges == (OffsetRange(ZERO, 10, 19),)


def test_an_end_at_the_position_is_no_news() -> None:
    scene = Scene(end(10))

    assert scene.reader.poll(1.0) is None
    assert scene.seen.heard_count == 1


def test_silence_is_none_after_the_timeout() -> None:
    scene = Scene()

    assert scene.reader.poll(1.0) is None
    assert scene.clock.seconds == 1.0
    assert scene.seen.heard_count == 0


def test_a_poll_with_few_records_waits_only_the_linger_time() -> None:
    scene = Scene()
    scene.consumer.later = [(0.3, record(10)), (0.305, record(11)), (0.5, record(12))]

    batch = scene.reader.poll(1.0)

    assert batch is not None
    assert batch.records.column("offset").to_pylist() == [10, 11]
    assert scene.clock.seconds == pytest.approx(0.31)
    assert batch.polled_boot_seconds == pytest.approx(0.31)


def test_a_poll_takes_no_more_records_than_allowed() -> None:
    scene = Scene(*(record(o) for o in range(10, 20)), poll_records_max=4)

    assert scene.offsets() == [10, 11, 12, 13]
    assert scene.offsets() == [14, 15, 16, 17]
    assert scene.offsets() == [18, 19]


def test_large_records_make_small_polls() -> None:
    large = [record(o, value=bytes(600)) for o in range(10, 20)]
    scene = Scene(*large, poll_bytes_max=1_500)
    scene.reader.poll(1.0)

    counts = [len(scene.offsets()) for _ in range(3)]

    assert max(counts) <= 3


def test_a_poll_that_is_all_but_full_asks_for_no_second_chunk() -> None:
    scene = Scene(
        *(record(offset, value=bytes(100)) for offset in range(10, 30)), poll_bytes_max=1_010
    )
    scene.reader.poll(1.0)  # learns how large records are
    scene.consumer.calls.clear()

    assert len(scene.offsets()) == 10
    assert [count for count, _ in scene.consumer.calls] == [10]


def test_a_record_larger_than_a_poll_is_delivered_alone() -> None:
    scene = Scene(record(10, value=bytes(5_000)), record(11), poll_bytes_max=1_500)

    assert scene.offsets() == [10]
    assert scene.offsets() == [11]


def test_a_lost_offset_is_named_with_what_the_log_still_has() -> None:
    scene = Scene(failure(KafkaError._AUTO_OFFSET_RESET, 10), watermarks=Watermarks(40, 90))

    with pytest.raises(DataLossError) as caught:
        scene.reader.poll(1.0)

    for part in ("topic=orders", "kafka_partition=0", "next_offset=10", "log_start=40"):
        assert part in str(caught.value)
    assert "k2i table accept-gap" in str(caught.value)
    assert "deleted" in str(caught.value)
    assert caught.value.kind is ErrorKind.OFFSETS_LOST


def test_a_log_shorter_than_the_position_is_told_apart_from_retention() -> None:
    scene = Scene(failure(KafkaError._AUTO_OFFSET_RESET, 10), watermarks=Watermarks(0, 5))

    with pytest.raises(DataLossError, match="truncated, or the topic recreated"):
        scene.reader.poll(1.0)


def test_records_before_an_error_are_delivered_before_it_is_raised() -> None:
    lost = failure(KafkaError._AUTO_OFFSET_RESET, 20, 1)
    scene = Scene(record(10), lost, record(11))

    assert scene.offsets() == [10]
    with pytest.raises(DataLossError, match="kafka_partition=1 next_offset=20"):
        scene.reader.poll(1.0)


def test_nothing_behind_an_unreadable_batch_is_delivered() -> None:
    scene = Scene(record(10), failure(KafkaError._BAD_MSG, 11), record(14), end(15))

    assert scene.offsets() == [10]
    assert scene.reader.positions[ZERO] == 11
    for _ in range(2):
        with pytest.raises(UnavailableError, match="_BAD_MSG"):
            scene.reader.poll(1.0)


def test_nothing_that_arrives_after_an_unreadable_batch_is_delivered() -> None:
    scene = Scene(failure(KafkaError._BAD_MSG, 10))
    scene.consumer.later = [(0.005, record(14))]

    with pytest.raises(UnavailableError, match="_BAD_MSG"):
        scene.reader.poll(1.0)
    assert scene.reader.positions[ZERO] == 10


@pytest.mark.parametrize(
    ("code", "fatal", "error_class"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, False, ConfigError),
        (KafkaError._FATAL, False, UnavailableError),
        (KafkaError._TRANSPORT, True, UnavailableError),
    ],
)
def test_what_cannot_go_on_by_itself_is_raised(
    code: int, fatal: bool, error_class: type[Exception]
) -> None:
    scene = Scene(failure(code, fatal=fatal))

    with pytest.raises(error_class):
        scene.reader.poll(1.0)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    ],
)
def test_an_outage_is_reported_and_not_raised(code: int) -> None:
    scene = Scene(failure(code), record(10))

    assert scene.offsets() == [10]
    assert scene.seen.errors == [KafkaError(code).name()]


def test_an_outage_alone_is_no_sign_of_life() -> None:
    scene = Scene(failure(KafkaError._TRANSPORT))

    assert scene.reader.poll(1.0) is None
    assert scene.seen.heard_count == 0


def test_a_topic_that_is_gone_ends_the_next_poll() -> None:
    gone = ConfigError("topic is gone", kind=ErrorKind.TOPIC_MISSING)
    scene = Scene(record(10), failure(KafkaError.UNKNOWN_TOPIC_OR_PART), topic_problem=gone)

    assert scene.offsets() == [10]
    with pytest.raises(ConfigError, match="topic is gone"):
        scene.reader.poll(1.0)


def test_a_topic_that_is_only_late_is_asked_for_once() -> None:
    scene = Scene(failure(KafkaError.UNKNOWN_TOPIC_OR_PART))
    scene.reader.poll(1.0)
    scene.consumer.queue = [record(10)]

    assert scene.offsets() == [10]
    assert scene.reader.poll(1.0) is None
    assert scene.topic_checks == 1
