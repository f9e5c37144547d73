"""HTTP as uvicorn speaks it, but for its answer to what is no HTTP, which is a bare text: here it is JSON too."""

from __future__ import annotations

import json

from uvicorn.protocols.http.h11_impl import H11Protocol

_BODY = json.dumps({"error_code": "BAD_REQUEST", "message": (
    "the request is no HTTP/1.1, or one of its headers is damaged; send Content-Length as a number, and the names and "
    "values of headers on one line each.")}).encode()


class JSONProtocol(H11Protocol):
    """For `uvicorn.Config(http=...)`."""

    def send_400_response(self, msg: str) -> None:
        """Say in JSON that nothing could be read, and close the connection."""
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: "
                             b"%d\r\nconnection: close\r\n\r\n%s" % (len(_BODY), _BODY))
        self.transport.close()
