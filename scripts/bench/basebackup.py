"""PostgreSQL's own pg_basebackup, as it is measured. It does not encrypt, and pushes no WAL."""

import machine
from subject import Subject


class BaseBackup(Subject):
    """Plain files; restored by copying them."""

    name = "pg_basebackup"
    options = ("--format=plain",)
    restore_script = 'cp -a "$0/backup/." "$1" && sync --file-system "$1"'

    def version(self):
        return self.run([self.program, "--version"])[1].strip()

    def prepare(self, turn):
        self.begin(turn)

    def backup(self):
        server, target = self.server, self.folder / "backup"
        where = ["-h", server.socket, "-p", server.port, "-U", "postgres", "-D", target]
        how = ["--checkpoint=fast", "--wal-method=none", *self.options]
        return self.run([self.program, *where, *how])[0], machine.size(target)

    def restore(self):
        self.restored = self.folder / "restored"
        self.make_folder(self.restored)
        return self.run(["sh", "-c", self.restore_script, self.folder, self.restored])[0]

    def forget_restored(self):
        machine.remove(self.restored)


class BaseBackupZstd(BaseBackup):
    """One compressed archive; restored by unpacking it. The server compresses."""

    name = "pg_basebackup-zstd"
    restore_script = (
        'zstd -dcq "$0/backup/base.tar.zst" | tar -x -C "$1" && sync --file-system "$1"'
    )

    @property
    def options(self):
        return ("--format=tar", f"--compress=server-zstd:level=1,workers={self.workers}")
