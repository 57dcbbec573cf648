"""Run seeds for as long as asked, or replay one: `python -m tests.simulation.soak --help`.

Ends with 1 at the first violation of a protocol that should be sound; a variant that is meant to
fail is counted instead, which is how a failing seed is searched for.
"""

# ruff: noqa: T201 - a command speaks on its standard output

import argparse
import secrets
import sys
import time

from tests.simulation.simulation import Simulation, replay_command
from tests.simulation.variants import VARIANTS
from tests.simulation.world import Violation

PROGRESS_RUNS = 500


def main() -> int:
    arguments = _parse()
    if arguments.seed is not None and not arguments.runs:
        return _replay(arguments.variant, arguments.seed, is_traced=arguments.trace)
    return _soak(arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate the exactly-once protocol.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run fresh seeds")
    parser.add_argument("--seed", type=int, help="replay this seed, or start here with --runs")
    parser.add_argument("--runs", type=int, default=0, help="at most this many seeds in a row")
    parser.add_argument("--violations", type=int, default=1, help="stop after this many")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="fixed")
    parser.add_argument("--trace", action="store_true", help="print every step of a replayed seed")
    return parser.parse_args()


def _replay(variant: str, seed: int, *, is_traced: bool) -> int:
    simulation = Simulation(seed, variant, is_traced=is_traced)
    found = _violation(simulation)
    if is_traced:
        print("\n".join(simulation.world.trace or ()))
    print(f"variant={variant} seed={seed}: {found or 'no violation'}")
    return int((found is None) != VARIANTS[variant].is_sound)


def _soak(arguments: argparse.Namespace) -> int:
    is_sound = VARIANTS[arguments.variant].is_sound
    seed = secrets.randbelow(2**40) if arguments.seed is None else arguments.seed
    started, cpu_started = time.monotonic(), time.process_time()
    runs, found = 0, 0
    while time.monotonic() - started < arguments.seconds:
        if violation := _violation(Simulation(seed + runs, arguments.variant)):
            found += 1
            print(f"{violation}\n  {replay_command(arguments.variant, seed + runs)}", flush=True)
        runs += 1
        if runs % PROGRESS_RUNS == 0:
            print(f"runs={runs} violations={found}", flush=True)
        if found >= arguments.violations or runs == arguments.runs:
            break
    rate = runs / max(1e-9, time.process_time() - cpu_started)
    print(
        f"variant={arguments.variant} seeds={seed}..{seed + runs - 1} runs={runs} "
        f"violations={found} runs_per_cpu_second={rate:.1f}",
        flush=True,
    )
    return int(is_sound and found > 0)


def _violation(simulation: Simulation) -> str | None:
    try:
        simulation.run()
    except Violation as violation:
        return str(violation)
    return None


if __name__ == "__main__":
    sys.exit(main())
