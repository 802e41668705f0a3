"""A server of objects that speaks as much of Amazon S3's API as s3fs asks for: ranges, and what one alone can make."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import object_server
from object_server import Server

_DATE = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


@contextmanager
def serving(*buckets: str) -> Iterator[Server]:
    with object_server.serving(*buckets, handler=Handler) as server:
        yield server


class Handler(object_server.Quick):
    def answer(self, code: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body) if length is None else length), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def fail(self, code: int, name: str) -> None:
        body = (
            b"" if self.command == "HEAD" else f"<Error><Code>{name}</Code><Message>{name}</Message></Error>".encode()
        )
        self.answer(code, body)

    def asked(self) -> tuple[dict[str, tuple[bytes, dict]], str, dict[str, str], bytes]:
        """The bucket's objects, the name of one, the query, the body."""
        parts = urlsplit(self.path)
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = unchunked(body)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return self.server.buckets[bucket], name, query, body

    def do_HEAD(self) -> None:
        objects, name, _, _ = self.asked()
        if (found := objects.get(name)) is None:
            return self.fail(404, "NoSuchKey")
        return self.answer(200, length=len(found[0]), ETag=found[1]["etag"], Last_Modified=formatdate(usegmt=True))

    def do_GET(self) -> None:
        objects, name, query, _ = self.asked()
        if not name:
            return self.answer(200, listed(objects, query), Content_Type="application/xml")
        if (found := objects.get(name)) is None:
            return self.fail(404, "NoSuchKey")
        if self.headers.get("If-Match", found[1]["etag"]) != found[1]["etag"]:
            return self.fail(412, "PreconditionFailed")
        data, headers = found[0], {"ETag": found[1]["etag"], "Last_Modified": formatdate(usegmt=True)}
        if not (asked := self.headers.get("Range")):
            return self.answer(200, data, **headers)
        first, last = asked.removeprefix("bytes=").split("-")
        start, end = int(first), min(int(last) + 1, len(data)) if last else len(data)
        if start >= end:
            return self.fail(416, "InvalidRange")
        return self.answer(206, data[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(data)}", **headers)

    def do_PUT(self) -> None:
        objects, name, _, body = self.asked()
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        with self.server.lock:
            taken = self.headers.get("If-None-Match") == "*" and name in objects
            if not taken:
                objects[name] = (body, {"etag": etag})
        return self.fail(412, "PreconditionFailed") if taken else self.answer(200, ETag=etag)

    def do_DELETE(self) -> None:
        objects, name, _, _ = self.asked()
        objects.pop(name, None)
        self.answer(204)


def unchunked(body: bytes) -> bytes:
    """What was sent in pieces, each after a line with its size in hexadecimal digits."""
    found, place = b"", 0
    while True:
        end = body.index(b"\r\n", place)
        size = int(body[place:end].split(b";")[0], 16)
        if not size:
            return found
        found += body[end + 2 : end + 2 + size]
        place = end + 4 + size


def listed(objects: dict[str, tuple[bytes, dict]], query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    items, prefixes = [], set()
    for name in sorted(objects):
        if name.startswith(prefix):
            inside, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if cut:
                prefixes.add(prefix + inside + delimiter)
            else:
                items.append((name, objects[name]))
    most, first = int(query.get("max-keys", 1000)), int(query.get("continuation-token", 0))
    page, more = items[first : first + most], len(items) > first + most
    rows = "".join(
        f"<Contents><Key>{escape(name)}</Key><LastModified>{_DATE}</LastModified><ETag>{escape(about['etag'])}</ETag>"
        f"<Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>" for name, (data, about) in page
    )  # fmt: skip
    rows += "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(prefixes))
    token = f"<NextContinuationToken>{first + most}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<KeyCount>{len(page) + len(prefixes)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
        "</ListBucketResult>"
    ).encode()
