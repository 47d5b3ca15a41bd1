"""The machine: what it is, and putting it into the same state before each measurement."""

import os
import shutil
import subprocess
import time
from pathlib import Path

QUIET_SECONDS = 3.0


def facts(folder):
    """What the figures depend on, as a dictionary for the results."""
    cpu = _field("/proc/cpuinfo", "model name") or os.uname().machine
    memory_kb = int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0])
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_bytes": memory_kb * 1024,
        "kernel": os.uname().release,
        "file_system": _file_system(folder),
        "system": _field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
    }


def _field(path, name, separator=":"):
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(separator)
        if key.strip() == name:
            return value.strip()
    return ""


def _file_system(folder):
    words = ["findmnt", "--noheadings", "--output", "FSTYPE,SOURCE,OPTIONS", "--target", folder]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return " ".join(found.stdout.split())


def others_busy():
    """The part of all cores that is in use while this program does nothing, 0 to 1."""
    before = _ticks()
    time.sleep(QUIET_SECONDS)  # the measurement itself
    after = _ticks()
    total = sum(after) - sum(before)
    idle = after[3] + after[4] - before[3] - before[4]
    return 1 - idle / max(total, 1)


def _ticks():
    with open("/proc/stat") as stat:
        return [int(word) for word in stat.readline().split()[1:9]]


def settle():
    """Writes what waits to be written, so that the next measurement does not pay for it."""
    os.sync()


def cool():
    """Empties the page cache: what is read next comes from the disk."""
    settle()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def warm(paths):
    """Reads these files, so that they come from the page cache as far as it has room."""
    buffer = bytearray(1 << 20)
    for path in paths:
        try:
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        except FileNotFoundError:
            pass  # the server removed it


def files(folder):
    """The regular files below a folder."""
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            if not path.is_symlink():
                yield path


def size(folder):
    """The bytes of the files below a folder."""
    total = 0
    for path in files(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            pass
    return total


def remove(folder):
    """Removes a folder with all that is in it, if it is there, and waits for the disk."""
    if os.path.lexists(folder):
        shutil.rmtree(folder)
    settle()
