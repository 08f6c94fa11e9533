"""The package as programs import it: `tallybook`, `python -m tallybook`, and systems that lack what Linux has."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tallybook.application

import tallybook

NO_FCNTL = "import sys; sys.modules['fcntl'] = None\n"
AS_ON_WINDOWS = """
import os, signal, sys
sys.modules.update(dict.fromkeys(("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop")))
for name in (
    "fork", "forkpty", "register_at_fork", "sched_getaffinity", "getuid", "geteuid", "getgid", "chown", "fchown",
    "lchown", "mkfifo", "mknod", "pread", "pwrite", "sendfile", "fdatasync", "sync", "killpg", "setsid",
    "statvfs", "O_CLOEXEC", "O_DIRECTORY", "O_DSYNC", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "posix_fadvise",
):
    delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "alarm", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
"""
RECORDS = """
from tallybook import Metering
with Metering.open("sqlite://") as metering:
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    print(metering.record("tokens", {"customer": "acme", "tokens": 25}).outcome)
"""
EMBEDS = """
import sys
from datetime import UTC, datetime, timedelta
from tallybook import AcceptancePolicy, BillingCycle, Metering
folder, now = sys.argv[1], datetime(2026, 3, 2, tzinfo=UTC)
url, policy = f"sqlite:///{folder}/usage.db", AcceptancePolicy(max_age=None)
with Metering.open(url, policy=policy, clock=lambda: now) as metering:
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    february = BillingCycle("month", "Europe/Berlin").period_containing(now - timedelta(days=10))
    metering.record("tokens", {"customer": "acme", "tokens": 25}, identifier="a", timestamp=february[0])
    metering.cancel("tokens", "a")
    metering.record("tokens", {"customer": "acme", "tokens": 17}, timestamp=february[0])
    closed = metering.periods.close("tokens", "acme", *february)
    metering.generations.rebuild()
    metering.access_keys.create(["read"])
    metering.checkpoints.create(f"{folder}/checkpoints")
    assert metering.checkpoints.verify(f"{folder}/checkpoints").difference is None
    assert metering.explain("tokens", "acme", *february).total.value == closed.quantity
    assert all(table.difference is None for table in metering.verify().tables)
with Metering.open(url) as metering:
    print(metering.total("tokens", "acme", *february).value)
"""
IMPORTS_ALL = """
import importlib, pkgutil, tallybook.application, tallybook.domain, tallybook.projections
for package in (tallybook.domain, tallybook.projections, tallybook.application):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if ".interfaces.django." not in module.name:  # needs the settings of a project
            importlib.import_module(module.name)
print("imported")
"""


def run(*arguments: str) -> str:
    completed = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip()


def test_the_package_exports_the_public_api() -> None:
    """All names of tallybook.application, and the version."""
    assert set(tallybook.__all__) == {*tallybook.application.__all__, "__version__"}  # pyright: ignore
    assert all(
        getattr(tallybook, name) is getattr(tallybook.application, name) for name in tallybook.application.__all__
    )
    assert tallybook.__version__ == version("tallybook")
    assert set(dir(tallybook)) >= {"Metering", "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError):
        tallybook.NoSuchName  # noqa: B018  # pyright: ignore
    with pytest.raises(AttributeError):
        tallybook.__no_such_name__  # noqa: B018  # pyright: ignore


def test_importing_the_package_loads_nothing_else() -> None:
    """Names are loaded when they are used: worker processes and `--help` start quickly."""
    loaded = "import sys, tallybook; print([name for name in sys.modules if name.startswith('tallybook.')])"
    assert run("-c", loaded) == "[]"


def test_the_package_can_be_run() -> None:
    """`python -m tallybook` is the command line."""
    assert run("-m", "tallybook", "--version") == f"tallybook {version('tallybook')}"


def test_it_embeds_on_a_system_without_what_windows_lacks(tmp_path: Path) -> None:
    """Modules and functions of POSIX are hidden: a ledger in a file is recorded, closed, rebuilt and verified."""
    program = tmp_path / "program.py"
    program.write_text(AS_ON_WINDOWS + EMBEDS)
    assert run(str(program), str(tmp_path)) == "17"


def test_the_server_says_that_it_does_not_run_on_windows() -> None:
    """Before it creates a ledger."""
    imports = "import os; from tallybook.application.interfaces.cli.serve import serve"
    assert run("-c", f"{imports}; os.name = 'nt'\ntry: serve()\nexcept SystemExit as end: print(end.code)") == "2"


def test_it_works_without_fcntl() -> None:
    """Windows has none: every module can be imported, and usage is recorded."""
    assert run("-c", NO_FCNTL + RECORDS) == "accepted"
    assert run("-c", NO_FCNTL + IMPORTS_ALL) == "imported"
