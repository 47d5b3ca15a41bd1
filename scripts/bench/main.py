"""The benchmark: makes a cluster, runs every tool in rounds, prints and stores what it took.

Called by scripts/bench.sh, which has checked the machine; runs as root in name spaces of its own.
"""

import argparse
import pwd
import sys
import time
from pathlib import Path

import machine
import processes
import report
from basebackup import BaseBackup, BaseBackupZstd
from limits import BackupLimit, RestoreLimit
from pgbackrest import PgBackRest
from rollforward import Rollforward
from server import Server

ALL = ("rollforward", "pgbackrest", "pg_basebackup", "pg_basebackup-zstd", "limit", "disk-limit")


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--postgresql", type=Path, required=True)
    parser.add_argument("--tree", type=Path, required=True)
    parser.add_argument("--size", required=True)
    parser.add_argument("--segments", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--bundle", default="y")
    parser.add_argument("--revision", default="")
    return parser.parse_args()


def subjects(given, server):
    """The tools to measure, in the order of the first round."""
    def make(kind, program, **more):
        return kind(given.folder, server, given.workers, program, **more)

    makers = {
        "rollforward": lambda: make(Rollforward, given.programs / "rollforward"),
        "pgbackrest": lambda: make(PgBackRest, given.tree, bundle=given.bundle),
        "pg_basebackup": lambda: make(BaseBackup, given.postgresql / "pg_basebackup"),
        "pg_basebackup-zstd": lambda: make(BaseBackupZstd, given.postgresql / "pg_basebackup"),
        "limit": lambda: make(BackupLimit, given.programs / "limit"),
        "disk-limit": lambda: make(RestoreLimit, given.programs / "disk_limit"),
    }
    names = given.only.split(",")
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise processes.Failure(f"unknown '{unknown[0]}', expected one of {', '.join(ALL)}")
    return [makers[name]() for name in names]


class Bench:
    """One run: what is measured, and the samples so far."""

    def __init__(self, given, server, tools):
        self.given = given
        self.server = server
        self.tools = tools
        self.segments = server.segments(given.segments)
        self.results = report.Results()

    def round(self, turn):
        """Everything once, by every tool; each round begins with another one."""
        first = turn % len(self.tools)
        order = self.tools[first:] + self.tools[:first]
        for tool in order:
            tool.prepare(turn)
        for verb in (self.backup, self.restore, self.push, self.get):
            for tool in order:
                if hasattr(tool, verb.__name__):
                    began = time.monotonic()
                    verb(tool)
                    took = time.monotonic() - began
                    say(f"round {turn + 1}: {verb.__name__} by {tool.name} done in {took:.1f} s")
        for tool in order:
            tool.end()

    def backup(self, tool):
        self.server.archive_with(tool.archive_command)
        self.server.quieten()
        if self.given.cold:
            machine.cool()
        else:
            machine.warm(machine.files(self.server.data / "base"))
            machine.settle()
        sample, stored = tool.backup()
        self.server.archive_with("/bin/true")
        self.results.add(tool.name, "backup", sample, stored_bytes=stored)

    def restore(self, tool):
        machine.cool()
        sample = tool.restore()
        tool.check_restored()
        tool.forget_restored()
        self.results.add(tool.name, "restore", sample)

    def push(self, tool):
        self.warm_segments()
        self.results.add_calls(tool.name, "push", tool.push(self.segments))

    def get(self, tool):
        self.warm_segments()
        self.results.add_calls(tool.name, "get", tool.get(self.segments))
        # The first one starts the prefetcher and is fetched as without it.
        waited = tool.get_prefetched(self.segments, wait=True)[1:]
        self.results.add_calls(tool.name, "get_prefetched", waited)
        machine.settle()
        asked = tool.get_prefetched(self.segments, wait=False)
        self.results.add_calls(tool.name, "get_stream", asked)

    def warm_segments(self):
        machine.warm(self.segments)
        machine.settle()


def main():
    given = arguments()
    owner = pwd.getpwnam("postgres")
    busy = machine.others_busy()
    if busy > 0.05:
        say(f"warning: {busy:.0%} of the processor time is used by others: figures will be too low")
    server = Server(given.folder / "cluster", given.postgresql, owner.pw_uid, owner.pw_gid)
    say(f"making a cluster of about {given.size}")
    server.start(given.segments)
    server.load(given.programs / "rollforward-shop", given.size)
    tools = subjects(given, server)
    bench = Bench(given, server, tools)
    bench.results.facts = {
        "machine": machine.facts(given.folder) | {"busy_before": round(busy, 3)},
        "versions": {tool.name: tool.version() for tool in tools} | {"server": server.version()},
        "revision": given.revision,
        "data_bytes": server.data_bytes(),
        "segments": given.segments,
        "rounds": given.rounds,
        "workers": given.workers,
        "page_cache": "cold" if given.cold else "warm",
    }
    for turn in range(given.rounds):
        bench.round(turn)
    server.stop()
    path = bench.results.store(given.results)
    print(report.text(bench.results))
    say(f"results: {path}")


if __name__ == "__main__":
    try:
        main()
    except processes.Failure as failure:
        print(f"bench: error: {failure}", file=sys.stderr)
        sys.exit(1)
