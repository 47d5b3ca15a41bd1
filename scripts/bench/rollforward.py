"""Rollforward, as it is measured."""

import json
import os

import machine
import processes
from subject import Subject

CLUSTER_SETTINGS = 'workers = {workers}\ncompression = "zstd:1"\n'


class Rollforward(Subject):
    """One repository per round, encrypted, local."""

    name = "rollforward"

    def version(self):
        return self.run([self.program, "version"])[1].split(" (")[0].strip()

    def prepare(self, turn):
        self.begin(turn)
        self.config = self.folder / "rollforward.toml"
        server = self.server
        connection = f"host={server.socket} port={server.port} user=postgres dbname=postgres"
        arguments = [
            ("--repository", f"main={self.folder}/repository"),
            ("--cluster", "shop"),
            ("--connection", connection),
            ("--state-directory", self.folder / "state"),
            ("--key-file", self.folder / "key"),
            ("--recovery-code-file", self.folder / "recovery-code"),
        ]
        words = [word for pair in arguments for word in pair]
        said = self.run([self.program, "--json", "--config", self.config, "init", *words])[1]
        self.archive_command = json.loads(said)["clusters"][0]["archive_command"]
        # The last table of the file is the cluster's.
        with open(self.config, "a") as file:
            file.write(CLUSTER_SETTINGS.format(workers=self.workers))

    def backup(self):
        command = [self.program, "--quiet", "--config", self.config, "backup", "shop"]
        return self.run(command)[0], machine.size(self.folder / "repository")

    def restore(self):
        self.restored = self.folder / "restored"
        # Without --copy a timeline is reserved for the promotion: a recovery in earnest does that.
        words = ["restore", "shop", "--to", self.restored, "--latest"]
        return self.run([self.program, "--quiet", "--config", self.config, *words])[0]

    def push(self, segments):
        words = [self.program, "wal", "push", "--config", self.config, "--cluster", "shop"]
        return self.run_all([processes.Command([*words, path]) for path in segments])

    def get(self, segments):
        words = [self.program, "wal", "get", "--config", self.config, "--cluster", "shop"]
        return self.get_with(words, segments, self.folder / "wal" / "RECOVERYXLOG")

    def get_prefetched(self, segments, wait):
        ticket = self.restored / "rollforward.ticket.json"
        target = self.restored / "pg_wal" / "RECOVERYXLOG"
        spool = target.parent / "rollforward.prefetch"
        machine.remove(spool)
        words = [self.program, "wal", "get", "--ticket", ticket]
        samples = self.get_with(words, segments, target, spool if wait else None, check=wait)
        processes.end_all_of(os.path.realpath(self.program))
        return samples
