"""Liveness probe: MLflow answers and serves the current certificate; otherwise exit code 1 and a sentence.

The server reads its certificate only when it starts. After a new one is in the secret, this probe fails, which restarts
the server.
"""

import http.client
import ssl
import sys
from pathlib import Path

CERTIFICATE, PORT, SECONDS = "/etc/mlflow-tls/tls.crt", 5000, 8.0


def problem(path: str, port: int) -> str | None:
    """What is wrong with the server at `port` of this machine; None if nothing is."""
    # Only the identity of the certificate matters here, not its name or its authority.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context)
    try:
        connection.connect()
        served = connection.sock.getpeercert(binary_form=True)
        connection.request("GET", "/health")
        status = connection.getresponse().status
        text = Path(path).read_text(encoding="ascii")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"MLflow cannot be asked: {error}"
    finally:
        connection.close()
    if status != 200:
        return f"/health answers with {status}"
    end = text.find(ssl.PEM_FOOTER)
    if end < 0 or ssl.PEM_cert_to_DER_cert(text[text.find(ssl.PEM_HEADER):end + len(ssl.PEM_FOOTER)]) != served:
        return f"the certificate in {path} is not the one that is served"
    return None


if __name__ == "__main__":
    sys.exit(problem(CERTIFICATE, PORT))
