"""Stands in for the applications of a service with two sites: Odoo, n8n, a service that sends
notifications, a gateway in front of them, and what stores files. ROLE says which one this is, SITE
where it runs. The first three read their connection once, from DATABASE_URL, and keep one session
open; Odoo's files are objects in a bucket."""

import http.client
import http.server
import json
import os
import subprocess
import threading
import urllib.parse

ROLE, SITE = os.environ["ROLE"], os.environ["SITE"]
HOST, PORT = os.environ["HOST"], int(os.environ["PORT"])
OTHERS = json.loads(os.environ.get("OTHERS", "{}"))


class Session:
    """One psql that stays connected; another one when it has ended."""

    def __init__(self):
        self.lock, self.psql = threading.Lock(), None
        url = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
        self.environment = {
            "PGHOST": url.hostname,
            "PGPORT": str(url.port),
            "PGUSER": url.username,
            "PGPASSWORD": url.password,
            "PGDATABASE": ROLE,
            "PGAPPNAME": ROLE,
            "PGSSLMODE": "disable",
            "PGCONNECT_TIMEOUT": "3",
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
            try:
                self.psql.stdin.write(sql + ";\n")
                self.psql.stdin.flush()
                line = self.psql.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                self.psql.wait()
                raise ConnectionError("the database does not answer as it should")
            return line.strip()


def rows(query):
    return json.loads(SESSION.ask(f"SELECT coalesce(jsonb_agg(to_jsonb(it)), '[]') FROM ({query}) it"))


def call(address, method, path, body=None):
    """Status and content that an HTTP server answers with."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def in_bucket(method, key, body=None):
    bucket = urllib.parse.urlsplit(os.environ["BUCKET"])
    status, content = call(bucket.netloc, method, f"{bucket.path}/{key}", body)
    if status != 200:
        raise ConnectionError(f"the bucket answers {status} to {method} {key}")
    return content


def odoo(method, path, body):
    if path == "/web/health":
        return {"database": SESSION.ask("SELECT 1")}
    if (method, path) == ("GET", "/web/orders"):
        orders = rows("SELECT id, name, file FROM orders ORDER BY id")
        return [order | {"content": in_bucket("GET", order["file"]).decode()} for order in orders]
    if (method, path) == ("POST", "/web/orders"):
        name = json.loads(body)["name"]
        in_bucket("PUT", f"filestore/{name}", f"the file of {name}")
        SESSION.ask(
            f"INSERT INTO orders (name, file) VALUES ('{name}', 'filestore/{name}') RETURNING id"
        )
        return {"name": name}
    return None


def n8n(_method, path, _body):
    if path == "/healthz":
        return {"database": SESSION.ask("SELECT 1")}
    if path == "/rest/workflows":
        return rows("SELECT id, name FROM workflows ORDER BY id")
    return None


def notify(_method, path, _body):
    if path == "/health":
        return {"database": SESSION.ask("SELECT 1")}
    if path == "/outbox":
        return rows("SELECT id, receiver FROM outbox ORDER BY id")
    return None


def storage(method, path, body):
    """The standby site's way to the bucket."""
    return {"stored": True} if path == "/health" else in_bucket(method, path.lstrip("/"), body)


def gateway(method, path, body):
    if path == "/site":
        return SITE
    if path == "/health":
        paths = {"odoo": "/web/health", "n8n": "/healthz", "notify": "/health"}
        states = {name: call(OTHERS[name], "GET", paths[name])[0] for name in OTHERS}
        if set(states.values()) != {200}:
            raise ConnectionError(f"not everybody is well: {states}")
        return states
    _, name, rest = path.split("/", 2)
    if name not in OTHERS:
        return None
    status, content = call(OTHERS[name], method, "/" + rest, body)
    if status != 200:
        raise ConnectionError(f"{name} answers {status}: {content.decode()}")
    return json.loads(content)


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            found = globals()[ROLE](self.command, self.path, body)
            status = 404 if found is None else 200
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, found = 503, {"error": str(error)}
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, allow_reuse_address = True, True


SESSION = Session() if "DATABASE_URL" in os.environ else None
if "POD_IP" in os.environ:
    threading.Thread(
        target=Server((os.environ["POD_IP"], PORT), Handler).serve_forever, daemon=True
    ).start()
Server((HOST, PORT), Handler).serve_forever()
