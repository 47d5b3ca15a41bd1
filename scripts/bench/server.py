"""The PostgreSQL cluster that all tools back up, and the WAL segments that they push and get."""

import os
import time
from pathlib import Path

import machine
import processes

PORT = 5432
SEGMENT_BYTES = 16 << 20
WAIT_MAX_S = 120
WAIT_INTERVAL_S = 0.1
# The first segments hold the making of the cluster itself.
SEGMENTS_SKIPPED = 4

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{socket}'
port = {port}
shared_buffers = 512MB
max_wal_size = 2GB
checkpoint_timeout = 1h
wal_level = replica
archive_mode = on
archive_command = '{capture} %p %f'
max_wal_senders = 4
# Nothing of the server's own shall run into a measurement.
autovacuum = off
"""

# Keeps the first segments of the load, as they are, in the order they were filled.
CAPTURE = """#!/bin/sh
set -eu
if [ "$(ls '{folder}' | wc -l)" -lt {count} ]; then
  cp "$1" '{folder}'/"$2".coming
  mv '{folder}'/"$2".coming '{folder}'/"$2"
fi
"""


class Server:
    """A cluster with the shop's data, started; every path is below `folder`."""

    port = PORT

    def __init__(self, folder, bin_folder, uid, gid):
        self.folder = Path(folder)
        self.bin = Path(bin_folder)
        self.data = self.folder / "data"
        self.socket = self.folder / "run"
        self.wal = self.data / "pg_wal"
        self.captured = self.folder / "segments"
        self.kept = []
        self.place = processes.Place(uid, gid, self.folder, self.folder / "log")
        for path in (self.folder, self.socket, self.captured):
            path.mkdir(mode=0o755)
            os.chown(path, uid, gid)

    def start(self, segments):
        """Makes the cluster and starts it; the first segments it fills are kept."""
        words = ["-D", self.data, "-U", "postgres", "--auth=trust", "-k", "--locale=C.UTF-8"]
        self.run([self.bin / "initdb", *words, "--no-sync"])
        capture = self.folder / "capture"
        count = segments + SEGMENTS_SKIPPED
        capture.write_text(CAPTURE.format(folder=self.captured, count=count))
        capture.chmod(0o755)
        settings = SETTINGS.format(socket=self.socket, port=PORT, capture=capture)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(settings)
        log = self.folder / "server.log"
        self.run([self.bin / "pg_ctl", "-D", self.data, "-l", log, "-w", "start"])

    def stop(self):
        """Stops the cluster."""
        self.run([self.bin / "pg_ctl", "-D", self.data, "-w", "-t", WAIT_MAX_S, "stop"])

    def run(self, argv):
        """Runs a program as the cluster's owner and returns what it printed."""
        return processes.run_one(self.place, argv, watch_memory=False)[1]

    def sql(self, text):
        """Runs SQL and returns the rows as text."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        words = ["-h", self.socket, "-p", PORT, "-U", "postgres", "-d", "postgres"]
        return self.run([self.bin / "psql", *options, *words, "-c", text]).strip()

    def load(self, shop, size):
        """Fills it with the shop's data, about `size` bytes."""
        settings = self.folder / "shop.env"
        settings.write_text(f"DATABASE_URL=postgres://postgres@127.0.0.1:{PORT}/postgres\n")
        self.run([shop, "load", "--settings", settings, "--size", size])
        last = self.sql("SELECT pg_walfile_name(pg_switch_wal())")
        query = f"SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver"
        self.wait(f"the archiver to take '{last}'", lambda: self.sql(query) == "t")
        self.archive_with("/bin/true")
        self.sql("CHECKPOINT")
        self.put_back()

    def put_back(self):
        """Puts the kept segments where archive commands find them, and where they stay."""
        self.sql("ALTER SYSTEM SET wal_keep_size = '1TB'")
        self.sql("SELECT pg_reload_conf()")
        self.wait("the new wal_keep_size", lambda: self.sql("SHOW wal_keep_size") == "1TB")
        for path in self.captured.iterdir():
            path.rename(self.wal / path.name)
            self.kept.append(path.name)

    def wait(self, what, is_done):
        """Waits until the server has done something."""
        deadline = time.monotonic() + WAIT_MAX_S
        while not is_done():
            if time.monotonic() > deadline:
                raise processes.Failure(f"waited {WAIT_MAX_S} s for {what}")
            time.sleep(WAIT_INTERVAL_S)

    def segments(self, count):
        """The kept segments, oldest first, one after the other without a hole."""
        names = sorted(self.kept)[SEGMENTS_SKIPPED:]
        paths = [self.wal / name for name in names[:count]]
        whole = all(path.stat().st_size == SEGMENT_BYTES for path in paths)
        if len(paths) < count or not whole:
            raise processes.Failure(
                f"the load filled {len(paths)} WAL segments, expected {count}: "
                "raise SIZE or lower SEGMENTS"
            )
        return paths

    def archive_with(self, command):
        """Hands WAL to this command from now on."""
        quoted = command.replace("'", "''")
        self.sql(f"ALTER SYSTEM SET archive_command = '{quoted}'")
        self.sql("SELECT pg_reload_conf()")
        # The first process of the server tells the archiver before it starts a session that knows.
        self.wait("the new archive_command", lambda: self.sql("SHOW archive_command") == command)

    def quieten(self):
        """Writes all changes out, so that the checkpoint of a backup has nothing to do."""
        self.sql("CHECKPOINT")

    def data_files(self):
        """The files that a backup of it has to read: all but WAL."""
        return [path for path in machine.files(self.data) if self.wal not in path.parents]

    def data_bytes(self):
        """The bytes of these files."""
        return sum(path.stat().st_size for path in self.data_files())

    def version(self):
        """The server's version, as it says it."""
        return self.run([self.bin / "postgres", "--version"]).strip()
