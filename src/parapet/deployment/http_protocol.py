"""uvicorn's HTTP protocol, with a JSON answer instead of plain text to a request that is not valid HTTP."""

from __future__ import annotations

import json

from uvicorn.protocols.http.h11_impl import H11Protocol

_BODY = json.dumps({"error_code": "BAD_REQUEST", "message": (
    "the request is not HTTP/1.1, or one of its headers is damaged; send Content-Length as a number, and the names and "
    "values of headers on one line each.")}).encode()


class JSONProtocol(H11Protocol):
    """For `uvicorn.Config(http=...)`."""

    def send_400_response(self, msg: str) -> None:
        """Answer in JSON that the request could not be read, and close the connection."""
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: "
                             b"%d\r\nconnection: close\r\n\r\n%s" % (len(_BODY), _BODY))
        self.transport.close()
