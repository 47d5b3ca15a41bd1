"""pgBackRest, as it is measured: it runs in a tree of its own, as the same user."""

import os
import subprocess
from pathlib import Path

import machine
import processes
from subject import Subject

CONFIG = """[global]
repo1-path={folder}/repository
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=a-passphrase-of-this-benchmark-only
repo1-retention-full=9
repo1-bundle={bundle}
compress-type=zst
compress-level=1
process-max={workers}
start-fast=y
archive-get-queue-max=256MiB
spool-path={folder}/spool
lock-path={folder}/lock
log-level-file=off
log-level-console=warn

[shop]
pg1-path={data}
pg1-socket-path={socket}
pg1-port={port}
pg1-user=postgres
"""

# For the server, which cannot change its root: the tree's own loader and libraries.
WRAPPER = """#!/bin/sh
exec '{tree}/lib64/ld-linux-x86-64.so.2' --library-path '{libraries}' \\
  '{tree}/usr/bin/pgbackrest' "$@"
"""


class PgBackRest(Subject):
    """One repository per round, encrypted, local, files bundled."""

    name = "pgbackrest"
    inside = "/usr/bin/pgbackrest"

    def __init__(self, folder, server, workers, tree, bundle="y"):
        super().__init__(folder, server, workers, self.inside)
        self.root = str(tree)
        self.bundle = bundle
        self.mount(Path(tree), Path(folder))
        self.wrapper = self.home / "pgbackrest"
        libraries = f"{tree}/usr/lib/x86_64-linux-gnu:{tree}/lib/x86_64-linux-gnu"
        self.wrapper.write_text(WRAPPER.format(tree=tree, libraries=libraries))
        self.wrapper.chmod(0o755)

    def mount(self, tree, folder):
        """Shows the tree what it needs of the machine; the mounts end with our name space."""
        inside = tree / str(folder).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        # The same names for the same numbers: it looks its user up.
        pairs = [(folder, inside), ("/proc", tree / "proc"), ("/dev", tree / "dev")]
        pairs += [(file, tree / file.lstrip("/")) for file in ("/etc/passwd", "/etc/group")]
        for source, target in pairs:
            subprocess.run(["mount", "--rbind", source, target], check=True)

    def version(self):
        return self.run([self.inside, "version"])[1].strip()

    def prepare(self, turn):
        self.begin(turn)
        for name in ("repository", "spool", "lock"):
            self.make_folder(self.folder / name)
        server = self.server
        config = self.folder / "pgbackrest.conf"
        config.write_text(
            CONFIG.format(
                folder=self.folder, bundle=self.bundle, workers=self.workers,
                data=server.data, socket=server.socket, port=server.port,
            )
        )
        self.words = [f"--config={config}", "--stanza=shop"]
        self.archive_command = " ".join([str(self.wrapper), *self.words, "archive-push", "%p"])
        self.run([self.inside, *self.words, "stanza-create"])

    def backup(self):
        sample, _ = self.run([self.inside, *self.words, "--type=full", "backup"])
        return sample, machine.size(self.folder / "repository")

    def restore(self):
        self.restored = self.folder / "restored"
        self.make_folder(self.restored)
        self.restored.chmod(0o700)
        return self.run([self.inside, *self.words, f"--pg1-path={self.restored}", "restore"])[0]

    def push(self, segments):
        words = [self.inside, *self.words, "--archive-async=n", "archive-push"]
        return self.run_all([processes.Command([*words, path]) for path in segments])

    def get(self, segments):
        words = [self.inside, *self.words, "--archive-async=n", "archive-get"]
        return self.get_with(words, segments, self.folder / "wal" / "RECOVERYXLOG")

    def get_prefetched(self, segments, wait):
        machine.remove(self.folder / "spool")
        self.make_folder(self.folder / "spool")
        spool = self.folder / "spool" / "archive" / "shop" / "in"
        words = [self.inside, *self.words, "--archive-async=y", "archive-get"]
        target = self.folder / "wal" / "RECOVERYXLOG"
        samples = self.get_with(words, segments, target, spool if wait else None, check=wait)
        processes.end_all_of(self.root + self.inside)
        return samples

    def forget_restored(self):
        machine.remove(self.restored)
