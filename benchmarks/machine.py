"""Describes the machine, without which a measurement means nothing."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psutil

Machine = dict[str, str | int]


def describe(folder: Path) -> Machine:
    """Return the processor, the memory, the disk that contains a folder, and the software versions."""
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
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _disk(folder: Path) -> str:
    """Return the file system and, if the system reports it, whether its disk is rotational."""
    containing = [
        partition
        for partition in psutil.disk_partitions(all=True)
        if folder.resolve().is_relative_to(partition.mountpoint)
    ]
    if not containing:
        return "unknown"
    partition_of_folder = max(containing, key=lambda partition: len(partition.mountpoint))
    rotational = Path("/sys/block", Path(partition_of_folder.device).name.rstrip("0123456789"), "queue", "rotational")
    kinds = {"0": "solid state", "1": "rotational by its own account"}
    kind = kinds.get(rotational.read_text().strip(), "") if rotational.exists() else ""
    return ", ".join(part for part in (partition_of_folder.fstype, partition_of_folder.device, kind) if part)
