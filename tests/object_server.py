"""A server of objects that speaks as much of Google Cloud Storage's JSON API as gcsfs, tensorstore and Orbax ask for.

`python object_server.py BUCKET …` prints its port and serves until it is ended. Generations and the conditions on them
are kept, which the emulators on PyPI leave out: the lock of a run, and tensorstore's database, stand on them.
"""

import base64
import hashlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

_GENERATIONS = itertools.count(time.time_ns() // 1000)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, buckets: list[str], port: int = 0, handler: type[BaseHTTPRequestHandler] | None = None):
        super().__init__(("127.0.0.1", port), handler or Handler)
        self.buckets: dict[str, dict[str, tuple[bytes, dict]]] = {bucket: {} for bucket in buckets}
        self.begun: dict[str, tuple[str, str, dict, bytearray]] = {}  # uploads by their number
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:  # gcsfs asks two things at once and hangs up on the slower
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(*buckets: str, handler: type[BaseHTTPRequestHandler] | None = None) -> Iterator[Server]:
    server = Server(list(buckets), handler=handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quick(BaseHTTPRequestHandler):
    """What servers of any interface share."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY: the answer's head does not wait for its body

    def log_message(self, *_: object) -> None:
        pass


class Handler(Quick):
    def answer(self, code: int, body: bytes | dict = b"", **headers: str) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        data = b"" if code in (204, 304) else data  # which have none
        self.send_response(code)
        kind = "application/json" if isinstance(body, dict) else "application/octet-stream"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def fail(self, code: int, message: str) -> None:
        self.answer(code, {"error": {"code": code, "message": message}})

    def asked(self) -> tuple[list[str], dict[str, str], bytes]:
        """The path's parts, the query, the body."""
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return [unquote(part) for part in parts.path.strip("/").split("/")], query, body

    def holds(self, query: dict[str, str], now: int) -> bool:
        """Whether the conditions on a generation hold; 0 is that of what is not there."""
        wanted, other = query.get("ifGenerationMatch"), query.get("ifGenerationNotMatch")
        return (wanted is None or int(wanted) == now) and (other is None or int(other) != now)

    # ---- Reading -----------------------------------------------------------------------------------------------------
    def do_GET(self) -> None:
        path, query, _ = self.asked()
        path = path[path.index("b") + 1 :]  # [download/]storage/v1/b/BUCKET[/o[/NAME]]
        if path[0] not in self.server.buckets:
            return self.fail(404, "The specified bucket does not exist.")
        with self.server.lock:
            objects = dict(self.server.buckets[path[0]])
        if len(path) == 1:
            return self.answer(200, {"kind": "storage#bucket", "name": path[0], "id": path[0]})
        if len(path) == 2:
            return self.answer(200, listed(objects, query))
        found = objects.get(path[2])
        if found is None:
            return self.fail(404, f"No such object: {path[0]}/{path[2]}")
        data, about = found
        if not self.holds(query, int(about["generation"])):
            return self.fail(304 if "ifGenerationNotMatch" in query else 412, "conditionNotMet")
        if query.get("alt") != "media":
            return self.answer(200, about)
        named = {"X_Goog_Generation": about["generation"], "ETag": about["etag"]}
        if not (asked := self.headers.get("Range")):
            return self.answer(200, data, **named)
        first, last = asked.removeprefix("bytes=").split("-")
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= end:
            return self.fail(416, "The requested range cannot be satisfied.")
        return self.answer(206, data[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(data)}", **named)

    # ---- Writing -----------------------------------------------------------------------------------------------------
    def write(self, bucket: str, name: str, data: bytes, query: dict[str, str]) -> None:
        if bucket not in self.server.buckets:
            return self.fail(404, "The specified bucket does not exist.")
        with self.server.lock:
            objects = self.server.buckets[bucket]
            now = int(objects[name][1]["generation"]) if name in objects else 0
            if holds := self.holds(query, now):
                objects[name] = (data, described(bucket, name, data))
        if not holds:
            return self.fail(412, "At least one of the pre-conditions you specified did not hold.")
        return self.answer(200, objects[name][1])

    def do_POST(self) -> None:
        path, query, body = self.asked()
        bucket = path[path.index("b") + 1]
        if "upload_id" in query:
            return self.part(query["upload_id"], body)
        if path[0] == "upload" and query["uploadType"] == "media":
            return self.write(bucket, query["name"], body, query)
        if path[0] == "upload" and query["uploadType"] == "multipart":
            edge = b"--" + self.headers["Content-Type"].split("boundary=")[1].strip('"').encode()
            about, content = body.split(edge)[1], edge.join(body.split(edge)[2:-1])
            name = json.loads(about.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1])["name"]
            content = content.lstrip(b"\r\n").replace(b"\r\n\r\n", b"\n\n", 1).split(b"\n\n", 1)[1]
            return self.write(bucket, name, content[:-1], query)
        if path[0] == "upload":
            number = str(next(_GENERATIONS))
            name = query.get("name") or json.loads(body)["name"]
            self.server.begun[number] = (bucket, name, query, bytearray())
            place = f"{self.server.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={number}"
            return self.answer(200, {}, Location=place)
        if "moveTo" in path or "rewriteTo" in path:
            return self.copied(path[path.index("b") + 1 :])
        return self.fail(501, self.path)

    def copied(self, path: list[str]) -> None:
        moves, (bucket, _, name), other = "moveTo" in path, path[:3], path[-1]
        with self.server.lock:
            objects = self.server.buckets[bucket]
            found = objects.pop(name, None) if moves else objects.get(name)
            if found:
                objects[other] = (found[0], described(bucket, other, found[0]))
        if not found:
            return self.fail(404, f"No such object: {bucket}/{name}")
        about = objects[other][1]
        return self.answer(200, about if moves else {"done": True, "resource": about})

    def do_PUT(self) -> None:
        _, query, body = self.asked()
        return self.part(query["upload_id"], body)

    def part(self, number: str, body: bytes) -> None:
        """A part of an upload, the last of which makes it whole."""
        bucket, name, given, data = self.server.begun[number]
        data += body
        total = self.headers["Content-Range"].rpartition("/")[2]
        if total == "*" or len(data) < int(total):
            return self.answer(308, b"", Range=f"bytes=0-{len(data) - 1}")
        return self.write(bucket, name, bytes(data), given)

    def do_DELETE(self) -> None:
        path, query, _ = self.asked()
        path = path[path.index("b") + 1 :]
        with self.server.lock:
            objects = self.server.buckets.get(path[0], {})
            found = objects.get(path[2])
            if found and (holds := self.holds(query, int(found[1]["generation"]))):
                del objects[path[2]]
        if not found:
            return self.fail(404, f"No such object: {path[0]}/{path[2]}")
        return self.answer(204) if holds else self.fail(412, "conditionNotMet")


def described(bucket: str, name: str, data: bytes) -> dict:
    generation = str(next(_GENERATIONS))
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{generation[-3:]}Z"
    return {
        "kind": "storage#object", "id": f"{bucket}/{name}/{generation}", "name": name, "bucket": bucket,
        "generation": generation, "metageneration": "1", "contentType": "application/octet-stream",
        "storageClass": "STANDARD", "size": str(len(data)), "timeCreated": now, "updated": now, "etag": generation,
        "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
        "crc32c": base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode(),
    }  # fmt: skip


def listed(objects: dict[str, tuple[bytes, dict]], query: dict[str, str]) -> dict:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    items, prefixes = [], set()
    for name in sorted(objects):
        if not name.startswith(prefix) or name < query.get("startOffset", ""):
            continue
        if query.get("endOffset") and name >= query["endOffset"]:
            continue
        inside, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        if cut:
            prefixes.add(prefix + inside + delimiter)
        else:
            items.append(objects[name][1])
    most = int(query.get("maxResults", 1000))
    first = int(query.get("pageToken", 0))
    page = {"kind": "storage#objects", "items": items[first : first + most], "prefixes": sorted(prefixes)}
    return page | ({"nextPageToken": str(first + most)} if len(items) > first + most else {})


if __name__ == "__main__":
    with serving(*sys.argv[1:]) as running:
        print(running.server_port, flush=True)
        threading.Event().wait()
