"""What every measured tool has in common."""

import os
from pathlib import Path

import machine
import processes


class Subject:
    """A tool: makes a repository of its own for each round, and measures its commands in it."""

    name = ""
    # Set by those that archive WAL.
    archive_command = "/bin/true"

    def __init__(self, folder, server, workers, program):
        self.home = Path(folder) / self.name
        self.server = server
        self.workers = workers
        self.program = program
        self.folder = self.home
        self.restored = None
        self.root = ""
        self.make_folder(self.home)

    def make_folder(self, path):
        """Makes a folder that the cluster's owner may write."""
        path.mkdir(mode=0o755)
        os.chown(path, self.server.place.uid, self.server.place.gid)

    def begin(self, turn):
        """Begins round `turn` in an empty folder."""
        self.folder = self.home / f"round-{turn}"
        self.make_folder(self.folder)
        self.make_folder(self.folder / "wal")

    def end(self):
        """Removes all that the round left."""
        machine.remove(self.folder)

    def place(self):
        """Where and as whom the commands of this round run."""
        place = self.server.place
        return processes.Place(place.uid, place.gid, self.folder, self.home / "log", self.root)

    def run(self, argv):
        """Runs one command; returns its sample and what it printed."""
        return processes.run_one(self.place(), argv)

    def run_all(self, commands):
        """Runs commands one after the other; returns their samples."""
        return processes.run(self.place(), commands)[0]

    def get_with(self, words, segments, target, spool=None, check=True):
        """Gets the segments one after the other into `target`; `words` lack name and path.

        With a spool each but the first is asked for only when it waits there. Each is compared
        with the original unless that would give a prefetcher time it would not have.
        """
        commands = []
        for path in segments:
            ready = str(spool / path.name) if spool and commands else ""
            argv = [*words, path.name, target]
            equal = (str(target), str(path)) if check else ()
            commands.append(processes.Command(argv, ready, str(target), equal))
        return self.run_all(commands)

    def check_restored(self):
        """Fails unless the restored directory has all the cluster's data."""
        found = machine.size(self.restored / "base")
        expected = machine.size(self.server.data / "base")
        if not (self.restored / "global" / "pg_control").exists() or found < expected * 0.98:
            raise processes.Failure(
                f"{self.name} restored {found} bytes of tables, expected {expected}"
            )

    def forget_restored(self):
        """Removes the tables of the restored directory; the rest is needed to get WAL."""
        machine.remove(self.restored / "base")
