# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Google Cloud Storage: its JSON API over HTTP, as far as clients here speak it."""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

OBJECT = re.compile(r"/(?:download/|upload/)?storage/v1/b/([^/]+)(?:/o(?:/([^/]+))?)?/?")


class FakeGcs:
    """Buckets in memory behind a port of this machine. Use as a context manager."""

    def __init__(self):
        self.buckets = {}
        """Bucket -> name of an object -> (generation, bytes)."""
        self.lock = threading.Lock()
        self.generation = 1000
        self.refused = {}
        """Bucket, or method and bucket -> HTTP status that such requests get."""
        self.wrote = []
        """Names in the order in which they were written."""
        self.uploads = {}

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"store": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def open_bucket(self, name):
        """A new bucket, the one that `url`, `names` and `read` are about; none is refused."""
        self.bucket, self.url = name, f"gs://{name}"
        self.buckets[name] = {}
        self.refused.clear()
        self.wrote.clear()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def variables(self):
        """What makes gcsfs, google-cloud-storage and tensorstore talk to this server."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "TENSORSTORE_GCS_HTTP_URL": self.address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GOOGLE_CLOUD_PROJECT": "none",
            "FSSPEC_GS_TOKEN": "anon",
            "FSSPEC_GCS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }

    def names(self, under=""):
        return sorted(name for name in [*self.buckets[self.bucket]] if name.startswith(under))

    def read(self, name):
        return self.buckets[self.bucket][name][1]

    def write(self, name, data, bucket=None, match=None):
        """Stores an object, unless it has another generation than is asked for; says whether."""
        bucket = bucket or self.bucket
        with self.lock:
            there = self.buckets[bucket].get(name, (0, b""))[0]
            if match is not None and int(match) != there:
                return False
            self.generation += 1
            self.buckets[bucket][name] = (self.generation, bytes(data))
            self.wrote.append(name)
            return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        # Clients hang up on answers that they do not need, and are killed.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, address)


class _Handler(BaseHTTPRequestHandler):
    store: FakeGcs
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *words):
        pass

    def handle_one(self):
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        body = self._body()
        found = OBJECT.fullmatch(url.path)
        if not found:
            return self._fail(404, f"no such address: {self.path}")
        bucket, name = unquote(found[1]), unquote(found[2] or "")
        for key in (bucket, (self.command, bucket)):
            if key in self.store.refused:
                return self._fail(self.store.refused[key], "the stand-in refuses")
        if bucket not in self.store.buckets:
            return self._fail(404, "The specified bucket does not exist.")
        if self.command in ("POST", "PUT"):
            return self._upload(bucket, query, body)
        if not found[2]:
            listing = "/o" in url.path
            return self._list(bucket, query) if listing else self._json({"name": bucket})
        if name not in self.store.buckets[bucket]:
            return self._fail(404, f"No such object: {bucket}/{name}")
        if self.command == "DELETE":
            with self.store.lock:
                self.store.buckets[bucket].pop(name, None)
            return self._answer(204)
        return self._get(bucket, name, query)

    do_GET = do_POST = do_PUT = do_DELETE = handle_one

    def _get(self, bucket, name, query):
        generation, data = self.store.buckets[bucket][name]
        if query.get("alt") != "media":
            return self._json(self._facts(bucket, name))
        if query.get("ifGenerationNotMatch") == str(generation):
            return self._answer(304)
        if query.get("ifGenerationMatch", str(generation)) != str(generation):
            return self._fail(412, "conditionNotMet")
        headers = {"x-goog-generation": str(generation)}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self._answer(200, data, headers)
        first, last = asked[1], asked[2]
        start = int(first) if first else max(0, len(data) - int(last))
        end = int(last) + 1 if first and last else len(data)
        if start >= len(data):
            return self._answer(416)
        end = min(end, len(data))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self._answer(206, data[start:end], headers)

    def _upload(self, bucket, query, body):
        kind, name, data = query.get("uploadType"), query.get("name"), body
        if kind == "multipart":
            facts, data = _parts(body)
            name = facts["name"]
        elif "upload_id" in query:
            upload = self.store.uploads[query["upload_id"]]
            upload["data"] += body
            total = self.headers["Content-Range"].rpartition("/")[2]
            if total == "*" or len(upload["data"]) < int(total):
                end = len(upload["data"]) - 1
                return self._answer(308, b"", {"Range": f"bytes=0-{end}"})
            name, data = upload["name"], upload["data"]
        elif kind == "resumable":
            key = str(len(self.store.uploads))
            name = name or json.loads(body)["name"]
            self.store.uploads[key] = {"name": name, "data": bytearray()}
            place = f"{self.store.address}/upload/storage/v1/b/{bucket}/o?upload_id={key}"
            return self._answer(200, b"", {"Location": place})
        if not self.store.write(name, data, bucket, query.get("ifGenerationMatch")):
            return self._fail(412, "conditionNotMet")
        return self._json(self._facts(bucket, name))

    def _list(self, bucket, query):
        prefix, cut = query.get("prefix", ""), query.get("delimiter")
        first, last = query.get("startOffset", ""), query.get("endOffset")
        items, prefixes = [], set()
        for name in sorted([*self.store.buckets[bucket]]):
            if not name.startswith(prefix) or name < first or (last and name >= last):
                continue
            rest = name[len(prefix) :]
            if cut and cut in rest:
                prefixes.add(prefix + rest.partition(cut)[0] + cut)
            else:
                items.append(self._facts(bucket, name))
        answer = {"kind": "storage#objects", "prefixes": sorted(prefixes), "items": items}
        return self._json({key: value for key, value in answer.items() if value})

    def _facts(self, bucket, name):
        generation, data = self.store.buckets[bucket].get(name, (0, b""))
        time = "2026-01-01T00:00:00.000Z"
        facts = {"kind": "storage#object", "bucket": bucket, "name": name, "size": str(len(data))}
        return facts | {"generation": str(generation), "updated": time, "timeCreated": time}

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, value):
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fail(self, code, message):
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        self._answer(code, body, {"Content-Type": "application/json"})

    def _answer(self, code, body=b"", headers=None):
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if code not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if code not in (204, 304):
            self.wfile.write(body)


def _parts(body):
    """Facts and data of a multipart upload of two parts."""
    mark = body.partition(b"\n")[0].strip()
    facts, data = body[len(mark) :].split(b"\n" + mark)[:2]
    return json.loads(_content(facts)), _content(data)


def _content(part):
    _, gap, content = part.partition(b"\r\n\r\n")
    return content if gap else part.partition(b"\n\n")[2]
