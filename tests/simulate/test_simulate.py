"""Simulated histories match the model, planted bugs are detected, and the printed command repeats a failure.

TALLYBOOK_TEST_SIMULATE_SEEDS sets another number of seeds; a run that isn't long tests 20 of them.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ..postgres import Database
from ..sampling import sample
from .mutants import MUTANTS
from .simulation import SimulationFailed, simulate
from .stores import CONFIGURED_DATABASES

SEEDS = int(os.environ.get("TALLYBOOK_TEST_SIMULATE_SEEDS", "50"))
POSTGRES_SEEDS = max(SEEDS // 12, 1)
STEPS = 25
TRIES = 60
"""The number of seeds in which a mutant must be detected."""
FIRST_SEEDS = {"adjustment-omits-cancellation": 20, "current-rules-as-of": 3}
"""The first seed to try for mutants that earlier ones don't detect."""


@pytest.mark.parametrize("seed", sample(range(SEEDS), 15))
def test_a_seed_passes(seed: int) -> None:
    """With failing statements, dying processes and concurrent operations the ledger matches the model."""
    check_seed(seed, STEPS, "memory" if seed % 10 == 9 else "sqlite")


@pytest.mark.parametrize("seed", range(POSTGRES_SEEDS))
def test_a_seed_passes_on_postgres(postgres: Database, seed: int) -> None:
    """The same on PostgreSQL, where connections are lost too."""
    if not CONFIGURED_DATABASES:
        CONFIGURED_DATABASES.append(postgres)
    check_seed(seed, 12, "postgres")


@pytest.mark.parametrize("mutant", sample(sorted(MUTANTS), 5))
def test_a_mutant_is_detected(mutant: str) -> None:
    """A few seeds detect the planted bug, and the bug is removed afterwards."""
    first = FIRST_SEEDS.get(mutant, 0)
    for seed in range(first, first + TRIES):
        try:
            simulate(seed, 40, mutant=mutant)
        except SimulationFailed:
            simulate(seed, 2)
            return
    pytest.fail(f"{mutant} was not detected in {TRIES} seeds")


def test_the_printed_command_repeats_the_failure() -> None:
    """The output names one command; it fails in the same way, also with another hash seed of Python."""
    first = run("--seeds", "9", "--mutant", "cancellation-ignored", hashing="1")
    assert first.returncode == 1
    (command,) = [line.removeprefix("Again: ") for line in first.stdout.splitlines() if line.startswith("Again: ")]
    python, dash_m, module, *arguments = shlex.split(command)
    assert (python, dash_m, module) == ("python", "-m", "tests.simulate")
    rerun = run(*arguments, hashing="2")
    assert (rerun.returncode, rerun.stdout) == (1, first.stdout)


def test_a_seed_is_the_same_in_every_run() -> None:
    """The trace and the counts of a seed are equal in this process and in others."""
    traces = [run("--seed", "4", "--steps", "30", "--trace", hashing=hashing).stdout for hashing in ("1", "2")]
    first, second = ([line for line in trace.splitlines() if " seeds, " not in line] for trace in traces)
    simulation = simulate(4, 30)
    assert first == second
    assert first[: len(simulation.trace)] == simulation.trace
    assert sum(simulation.counts.values()) > len(simulation.trace) > 30


def check_seed(seed: int, steps: int, store: str) -> None:
    """Simulate a seed; fail with the command that repeats a failure."""
    try:
        simulate(seed, steps, store)
    except SimulationFailed as failed:
        traces = "\n".join(failed.trace[-12:])
        rerun = f"python -m tests.simulate --seed {seed} --steps {steps} --store {store}"
        pytest.fail(f"{traces}\nafter step {failed.step}: {failed}\n{rerun}")


def run(*arguments: str, hashing: str) -> "subprocess.CompletedProcess[str]":
    """Run the simulator as a program."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulate", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hashing, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
