"""What this machine can do at most, without anybody's format: measured beside the tools."""

import json
from dataclasses import replace

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
    """Writes files of the sizes that a restore has to, from memory; ends with them durable."""

    name = "disk-limit"

    def version(self):
        return "crates/restore/examples/disk_limit.rs"

    def prepare(self, turn):
        self.begin(turn)
        # The program takes the sizes of all files below a folder; WAL is not restored.
        self.shape = self.folder / "shape"
        self.shape.mkdir()
        for number, path in enumerate(self.server.data_files()):
            with open(self.shape / str(number), "wb") as file:
                file.truncate(path.stat().st_size)

    def restore(self):
        words = [self.program, self.shape, self.folder / "restored", self.workers]
        sample, printed = self.run(words)
        # It removes what it wrote: its own clock stands before that.
        return replace(sample, seconds=json.loads(printed)["seconds"])

    def check_restored(self):
        """It writes other bytes than the cluster's."""

    def forget_restored(self):
        """It has removed them itself."""
