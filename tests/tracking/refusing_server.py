"""A server that is healthy and refuses everything else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer


@contextmanager
def refusing_server(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that answers with `status` and `body`, but for /health."""
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            healthy = self.path == "/health"
            self.send_response(200 if healthy else status)
            self.end_headers()
            self.wfile.write(b"OK" if healthy else body)

        do_POST = do_GET

        def log_message(self, *args):
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{refusing.server_port}"
        refusing.shutdown()
