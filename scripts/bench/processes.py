"""Runs commands one after the other and measures each: time, processor time, peak memory.

A worker process takes on the command's user (and root directory, for programs that live in a tree
of their own) once; what is measured is then the start of the program itself and nothing before it.
"""

import filecmp
import json
import os
import resource  # os.wait4 loads it when first used, which a worker with another root cannot
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

# How often memory is looked at. The kernel keeps each process's peak; only a process that lives
# shorter than this between its peak and its end is seen too small.
MEMORY_INTERVAL_S = 0.05
# A file that a command's measurement waits for comes within this time, or the run fails.
READY_MAX_S = 60.0
READY_INTERVAL_S = 0.002


class Failure(Exception):
    """A command failed; the text says which, and what it printed."""


@dataclass
class Command:
    """One measured command."""

    argv: list
    # Wait for this file before the clock starts: a segment that was fetched in advance.
    ready: str = ""
    # Remove this file before the clock starts, as PostgreSQL does before it asks for a segment.
    remove: str = ""
    # The file (first) must be equal to the other (second) afterwards.
    equal: tuple = ()


@dataclass
class Place:
    """As whom and where commands run."""

    uid: int
    gid: int
    folder: Path
    log: Path
    root: str = ""
    environment: dict = field(default_factory=dict)


@dataclass
class Sample:
    """What one command took. `memory` is the sum over its processes, each at its own peak."""

    seconds: float
    user_seconds: float
    system_seconds: float
    memory_bytes: int
    largest_process_bytes: int


def run(place, commands, watch_memory=False):
    """Runs the commands in order and returns their samples and the last one's standard output.

    Raises Failure when one ends with another code than 0; the rest is then not run.
    """
    output = place.log.with_name("printed")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            answer = _work(place, commands, watch_memory, output)
            code = 0
        except BaseException as error:  # the parent reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"error": "the worker ended without a word"}
    if "error" in answer:
        said = place.log.read_text(errors="replace").splitlines()[-20:]
        raise Failure("\n".join([answer["error"], *said]))
    printed = output.read_text(errors="replace")
    return [Sample(**sample) for sample in answer["samples"]], printed


def run_one(place, argv, watch_memory=True):
    """Runs one command and returns its sample and its standard output."""
    samples, printed = run(place, [Command(argv)], watch_memory)
    return samples[0], printed


def _work(place, commands, watch_memory, output):
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    out = os.open(output, flags | os.O_TRUNC, 0o644)
    log = os.open(place.log, flags | os.O_APPEND, 0o644)
    nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate((nothing, out, log))]
    if place.root:
        os.chroot(place.root)
    os.setgroups([])
    os.setgid(place.gid)
    os.setuid(place.uid)
    os.chdir(place.folder)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    environment |= place.environment
    samples = []
    for command in commands:
        _prepare(command)
        os.ftruncate(out, 0)
        os.lseek(out, 0, os.SEEK_SET)
        samples.append(_measure(command.argv, actions, environment, watch_memory).__dict__)
        if command.equal and not filecmp.cmp(*command.equal, shallow=False):
            raise Failure(f"'{command.equal[0]}' is not equal to '{command.equal[1]}'")
    return {"samples": samples}


def _prepare(command):
    if command.remove and os.path.lexists(command.remove):
        os.unlink(command.remove)
    deadline = time.monotonic() + READY_MAX_S
    while command.ready and not os.path.exists(command.ready):
        if time.monotonic() > deadline:
            raise Failure(f"'{command.ready}' did not come within {READY_MAX_S:.0f} s")
        time.sleep(READY_INTERVAL_S)


def _measure(argv, actions, environment, watch_memory):
    argv = [str(word) for word in argv]
    begun = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
    memory = _Memory(pid) if watch_memory else None
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - begun
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise Failure(f"ended with {code}: {' '.join(argv)}")
    largest = usage.ru_maxrss * 1024
    return Sample(
        seconds=seconds,
        user_seconds=usage.ru_utime,
        system_seconds=usage.ru_stime,
        memory_bytes=max(largest, memory.end() if memory else 0),
        largest_process_bytes=largest,
    )


class _Memory(threading.Thread):
    """Watches the peak of a process and of all its descendants."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.root = pid
        self.peaks = {}
        self.ended = threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(MEMORY_INTERVAL_S):
            waiting = [self.root]
            while waiting:
                pid = waiting.pop()
                self.look(pid)
                waiting.extend(_children(pid))

    def look(self, pid):
        try:
            with open(f"/proc/{pid}/status") as status:
                for line in status:
                    if line.startswith("VmHWM:"):
                        peak = int(line.split()[1]) * 1024
                        self.peaks[pid] = max(self.peaks.get(pid, 0), peak)
        except OSError:
            pass  # it has ended

    def end(self):
        self.ended.set()
        self.join()
        return sum(self.peaks.values())


def _children(pid):
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        texts = []
        for task in tasks:
            with open(f"/proc/{pid}/task/{task}/children") as children:
                texts.append(children.read())
        return [int(word) for text in texts for word in text.split()]
    except OSError:
        return []


def end_all_of(program):
    """Ends every process of this program, by its id, and waits until it is gone.

    Called inside a process table of our own: all of them were started by this run.
    """
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        try:
            if os.readlink(f"/proc/{pid}/exe") != str(program):
                continue
            os.kill(int(pid), 15)
        except OSError:
            continue
        deadline = time.monotonic() + READY_MAX_S
        while _lives(pid):
            if time.monotonic() > deadline:
                raise Failure(f"process {pid} of '{program}' does not end")
            time.sleep(READY_INTERVAL_S)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
