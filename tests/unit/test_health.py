"""What a worker's health says, with a clock that only the test moves.

Goal: health is truthful: silence is a failure, and a renewed report recovers.
Method: reports and time by hand; no socket.
"""

from dataclasses import dataclass

from k2i_core.server import Health, HealthCheck


@dataclass
class HandClock:
    seconds: float = 1_000.0

    def boot_seconds(self) -> float:
        return self.seconds

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def worker_health(clock: HandClock) -> Health:
    checks = (
        HealthCheck("loop", 10.0, decides_liveness=True),
        HealthCheck("owner", None),
        HealthCheck("broker", 30.0),
    )
    return Health(checks, clock)


def ready_health(clock: HandClock) -> Health:
    health = worker_health(clock)
    for name in ("loop", "owner", "broker"):
        health.report(name, ok=True)
    return health


def test_a_worker_is_alive_but_not_ready_before_its_first_reports():
    health = worker_health(HandClock())

    assert health.liveness().ok
    assert not health.readiness().ok
    assert health.readiness().to_json()["checks"]["owner"]["detail"] == "not reported yet"


def test_a_worker_whose_loop_never_turned_is_dead_after_its_limit():
    clock = HandClock()
    health = worker_health(clock)
    clock.sleep(10.1)

    assert not health.liveness().ok


def test_a_worker_is_ready_when_every_check_passes():
    assert ready_health(HandClock()).readiness().ok


def test_silence_is_a_failure_and_says_how_long():
    clock = HandClock()
    health = ready_health(clock)
    clock.sleep(31)
    health.report("loop", ok=True)

    outcome = health.readiness()

    assert health.liveness().ok
    failed = {c.name: c.detail for c in outcome.checks if not c.ok}
    assert failed == {"broker": "no report for 31.0 s, limit 30.0 s"}


def test_a_failing_check_shows_its_reason_and_recovers():
    health = ready_health(HandClock())
    health.report("broker", ok=False, detail="no answer in 5 s")

    assert health.readiness().to_json()["checks"]["broker"]["detail"] == "no answer in 5 s"
    assert not health.readiness().ok
    health.report("broker", ok=True)
    assert health.readiness().ok


def test_a_check_without_a_limit_never_goes_stale():
    clock = HandClock()
    health = ready_health(clock)
    clock.sleep(1_000_000)

    assert next(c for c in health.readiness().checks if c.name == "owner").ok


def test_a_report_may_be_about_a_moment_ago():
    clock = HandClock()
    health = ready_health(clock)
    health.report("broker", ok=True, at_boot_seconds=clock.seconds - 31)

    assert not health.readiness().ok


def test_a_loop_that_waits_for_services_is_given_the_time_they_need_and_no_more():
    clock = HandClock()
    health = ready_health(clock)
    health.report("loop", ok=True, detail="waiting", stale_seconds_max=900.0)
    clock.sleep(899)
    assert health.liveness().ok
    clock.sleep(2)
    assert not health.liveness().ok


def test_a_loop_that_turns_again_has_its_own_limit_again():
    clock = HandClock()
    health = ready_health(clock)
    health.report("loop", ok=True, stale_seconds_max=900.0)
    health.report("loop", ok=True)
    clock.sleep(11)
    assert not health.liveness().ok
