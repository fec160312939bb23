"""A bucket of Google Cloud Storage in this process: for tensorstore by its JSON API, for fsspec as a file system."""

import contextlib
import http.server
import io
import json
import os
import re
import threading
import time
import urllib.parse

import fsspec
import pytest
from etils.epath import backend, gpath
from fsspec.registry import _registry
from orbax.checkpoint._src.path import gcs_utils

OBJECTS = {}  # bucket/name -> (content, generation, time of writing)


def put(name, content):
    OBJECTS[name] = bytes(content), str(len(content) + time.monotonic_ns()), time.time()


class Api(http.server.BaseHTTPRequestHandler):
    """Reads, writes, lists and deletes objects, with the preconditions that tensorstore sets."""

    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        bucket, name, query = self.asked()
        if not name:
            start, end = query.get('startOffset', ''), query.get('endOffset', '\U0010ffff')
            own = {key.partition('/')[2]: key for key in sorted(OBJECTS) if key.startswith(f'{bucket}/')}
            found = [
                self.facts(key) for short, key in own.items()
                if short.startswith(query.get('prefix', '')) and start <= short < end
            ]  # fmt: skip
            return self.answer(200, json.dumps({'items': found}).encode())
        if (key := f'{bucket}/{name}') not in OBJECTS:
            return self.answer(404)
        content, generation, _ = OBJECTS[key]
        if query.get('ifGenerationNotMatch') == generation:
            return self.answer(304)
        if query.get('alt') != 'media':
            return self.answer(200, json.dumps(self.facts(key)).encode())
        if part := re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', '')):
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            extent = f'bytes {first}-{last}/{len(content)}'
            return self.answer(206, content[first : last + 1], generation, extent)
        return self.answer(200, content, generation)

    def do_POST(self):
        bucket, _, query = self.asked()
        content = self.rfile.read(int(self.headers['Content-Length']))
        key = f'{bucket}/{query["name"]}'
        if query.get('ifGenerationMatch') not in (None, OBJECTS.get(key, (b'', '0'))[1]):
            return self.answer(412)
        put(key, content)
        self.answer(200, json.dumps(self.facts(key)).encode())

    def do_DELETE(self):
        bucket, name, _ = self.asked()
        self.answer(204 if OBJECTS.pop(f'{bucket}/{name}', None) else 404)

    def asked(self):
        url = urllib.parse.urlsplit(self.path)
        bucket, name = re.fullmatch(r'.*/storage/v1/b/([^/]+)/o(?:/(.*))?', url.path).groups()
        return bucket, urllib.parse.unquote(name or ''), dict(urllib.parse.parse_qsl(url.query))

    def facts(self, key):
        content, generation, _ = OBJECTS[key]
        return {'name': key.partition('/')[2], 'size': str(len(content)), 'generation': generation}

    def answer(self, code, content=b'', generation='', extent=''):
        self.send_response(code)
        for name, value in {'x-goog-generation': generation, 'Content-Range': extent}.items():
            if value:
                self.send_header(name, value)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass


class Files(fsspec.AbstractFileSystem):
    """The same objects as files. As in a bucket, there are no folders but the beginnings of names, and no appending."""

    protocol = ('gs', 'gcs')
    cachable = False

    def ls(self, path, detail=True, **options):
        path = self._strip_protocol(path)
        names = [path] if path in OBJECTS else []
        start = f'{path}/'
        names += sorted({start + key[len(start) :].partition('/')[0] for key in OBJECTS if key.startswith(start)})
        if not names:
            raise FileNotFoundError(path)
        return [self.info(name) for name in names] if detail else names

    def info(self, path, **options):
        path = self._strip_protocol(path)
        if path in OBJECTS:
            content, _, written = OBJECTS[path]
            return {'name': path, 'size': len(content), 'type': 'file', 'mtime': written}
        if any(key.startswith(f'{path}/') for key in OBJECTS):
            return {'name': path, 'size': 0, 'type': 'directory'}
        raise FileNotFoundError(path)

    def mkdir(self, path, create_parents=True, **options):
        pass

    makedirs = rmdir = mkdir

    def rm_file(self, path):
        OBJECTS.pop(self._strip_protocol(path), None)

    def cp_file(self, path1, path2, **options):
        if (source := self._strip_protocol(path1)) in OBJECTS:
            put(self._strip_protocol(path2), OBJECTS[source][0])

    def _open(self, path, mode='rb', **options):
        if mode == 'rb':
            self.info(path)
            return io.BytesIO(OBJECTS[path][0])
        assert mode == 'wb', mode
        return Written(path)


class Written(io.BytesIO):
    """An object appears when its file is closed."""

    def __init__(self, name):
        super().__init__()
        self.key = name

    def close(self):
        if not self.closed:
            put(self.key, self.getvalue())
        super().close()


@contextlib.contextmanager
def bucket():
    """Serves gs:// of this process from memory, and yields the objects: bucket/name -> (content, generation, time)."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    forget = backend.fsspec_backend._get_filesystem.cache_clear
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, 'TENSORSTORE_GCS_HTTP_URL', f'http://127.0.0.1:{server.server_port}')
        patch.setitem(os.environ, 'GOOGLE_AUTH_TOKEN_FOR_TESTING', 'none')
        patch.setattr(gpath, '_is_tf_installed', lambda: False)
        patch.setattr(gcs_utils, 'is_hierarchical_namespace_enabled', lambda path: False)
        for name in Files.protocol:
            patch.setitem(_registry, name, Files)
        forget()
        try:
            yield OBJECTS
        finally:
            forget()
            OBJECTS.clear()
            server.shutdown()
            server.server_close()
