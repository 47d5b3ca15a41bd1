"""What this machine can do at most, without anybody's format: measured beside the tools."""

import json

import machine
from subject import Subject


class BackupLimit(Subject):
    """Reads, checks, compresses, encrypts and writes the same data; ends with syncfs."""

    name = "limit"

    def version(self):
        return "crates/backup/examples/limit.rs"

    def prepare(self, turn):
        self.begin(turn)

    def backup(self):
        output = self.folder / "output"
        sample, printed = self.run([self.program, self.server.data, output, self.workers])
        json.loads(printed)
        return sample, output.stat().st_size


class RestoreLimit(Subject):
    """Writes as many bytes as a restore has to, with as many workers; ends with them durable."""

    name = "disk-limit"

    def version(self):
        return "crates/restore/examples/disk_limit.rs"

    def prepare(self, turn):
        self.begin(turn)

    def restore(self):
        self.restored = self.folder / "restored"
        self.make_folder(self.restored)
        words = [self.program, self.restored, self.server.data_bytes(), self.workers]
        return self.run(words)[0]

    def forget_restored(self):
        machine.remove(self.restored)

    def check_restored(self):
        """It writes other bytes than the cluster's."""
