"""The machine that is measured on: without it a figure says nothing."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psutil

Machine = dict[str, str | int]


def described(folder: Path) -> Machine:
    """Processor, memory, the disk under a folder, and versions."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "disk": _disk(folder),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "DuckDB": duckdb.__version__,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    lines = found.read_text().splitlines() if found.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _disk(folder: Path) -> str:
    """The file system, and whether its disk turns, as far as the system tells."""
    within = [one for one in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(one.mountpoint)]
    if not within:
        return "unknown"
    found = max(within, key=lambda one: len(one.mountpoint))
    turns = Path("/sys/block", Path(found.device).name.rstrip("0123456789"), "queue", "rotational")
    kinds = {"0": "solid state", "1": "rotational by its own account"}
    kind = kinds.get(turns.read_text().strip(), "") if turns.exists() else ""
    return ", ".join(part for part in (found.fstype, found.device, kind) if part)
