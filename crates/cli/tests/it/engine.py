"""Stands in for the transformation engine: an HTTP service that reads its connection once, in the
form of ADO.NET, and keeps one session open. PostgreSQL sees it come from the pod's own address."""

import http.server
import json
import os
import socket
import subprocess
import threading

POD, PORT = os.environ["POD_IP"], int(os.environ["PORT"])
SQL = os.environ.get("SQL", "SELECT id, name FROM transformation_scripts ORDER BY id")


def connection():
    """The value of the variable, or what the mounted file says."""
    text = os.environ.get("CONNECTION")
    if text is None:
        with open(os.environ["SETTINGS"]) as file:
            text = json.load(file)["ConnectionStrings"]["DefaultConnection"]
    pairs = (pair.split("=", 1) for pair in text.split(";") if pair)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def relay(listener, host, port):
    """All addresses of loopback would come from 127.0.0.1 otherwise."""
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection((host, port), 5, (POD, 0))
        except OSError:
            client.close()
            continue
        server.settimeout(None)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=copy, args=pair, daemon=True).start()


class Session:
    """One psql that stays connected; another one when it has ended."""

    def __init__(self, said):
        self.lock, self.psql = threading.Lock(), None
        folder = os.getcwd()
        path = folder + "/.s.PGSQL.5432"
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(16)
        there = (said["host"], int(said.get("port", "5432")))
        threading.Thread(target=relay, args=(listener, *there), daemon=True).start()
        self.environment = {
            "PGHOST": folder,
            "PGPORT": "5432",
            "PGUSER": said["username"],
            "PGPASSWORD": said["password"],
            "PGDATABASE": said["database"],
            "PGAPPNAME": "engine",
            "PGSSLMODE": "disable",
        }

    def ask(self, sql):
        """The one value that `sql` gives."""
        with self.lock:
            if self.psql is None or self.psql.poll() is not None:
                self.psql = subprocess.Popen(
                    [os.environ["PSQL"], "-XAtq", "-v", "ON_ERROR_STOP=1"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=self.environment,
                )
            self.psql.stdin.write(sql + ";\n")
            self.psql.stdin.flush()
            line = self.psql.stdout.readline()
            if not line:
                self.psql.wait()
                raise ConnectionError("the database does not answer as it should")
            return line.strip()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 404, "{}"
        try:
            if self.path == "/healthz":
                status, body = 200, json.dumps({"database": SESSION.ask("SELECT 1")})
            elif self.path == "/api/v1/transformations":
                rows = f"SELECT coalesce(jsonb_agg(to_jsonb(it)), '[]') FROM ({SQL}) it"
                status, body = 200, SESSION.ask(rows)
        except OSError as error:
            status, body = 503, json.dumps({"error": str(error)})
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        # All pods share the service's address: the kernel chooses one for each connection.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.server_address


SESSION = Session(connection())
threading.Thread(target=Server((POD, PORT), Handler).serve_forever, daemon=True).start()
Server(("127.0.0.1", PORT), Handler).serve_forever()
