"""The Kubeflow Pipelines API: a client with time limits, whose errors become one sentence for the user."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parapet.errors import InputError, WorkError

if TYPE_CHECKING:
    import kfp

_ENDPOINT = "KF_PIPELINES_ENDPOINT"


@dataclass(frozen=True)
class Endpoint:
    """Address and credentials of the API; None means the default of the kfp client.

    host: the default is KF_PIPELINES_ENDPOINT, the service inside a cluster, or the current kubectl context.
    token_file: a file with a bearer token, read for each client; in a pod the client uses a projected service account
    token by default. seconds: time limit of one request.
    """

    host: str | None = None
    namespace: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    seconds: float = 30.0


class Unavailable(WorkError):
    """The API does not answer or has an internal error; the same request may succeed later."""


def connect(endpoint: Endpoint) -> kfp.Client:
    """A client of the API at `endpoint`. Raises InputError and WorkError as `asking` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp

        class Client(kfp.Client):
            """A client that checks the server's health once; kfp's own client repeats the check without limit."""

            def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
                _limit(self, endpoint.seconds)
                return self._healthz_api.healthz_service_get_healthz()

        with asking(endpoint):
            client = Client(host=endpoint.host, namespace=endpoint.namespace or "kubeflow",
                            existing_token=_token(endpoint.token_file),
                            ssl_ca_cert=endpoint.ca_file and str(endpoint.ca_file))
    _limit(client, endpoint.seconds)
    return client


@contextmanager
def asking(endpoint: Endpoint) -> Iterator[None]:
    """Convert errors of the block: InputError for refused credentials and bad requests, `Unavailable` where the server
    does not answer or has an internal error, WorkError for other API errors."""
    import urllib3
    from kfp_server_api import ApiException

    where = endpoint.host or "the Kubeflow Pipelines API"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the client prints links, which are not wanted here
            yield
    except ApiException as error:
        told = _told(error)
        if error.status in (401, 403):
            raise InputError(f"{where} refuses the credentials ({error.status}: {told}); give a bearer token with "
                             "--token-file, or run in a pod whose service account may create runs.") from None
        if error.status == 0 or error.status >= 500 or error.status == 429:
            raise Unavailable(f"{where} is in trouble ({error.status}: {told}); try again later.") from None
        raise (InputError if error.status in (400, 404) else WorkError)(
            f"{where} refused the request ({error.status}: {told}).") from None
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"{where} does not answer ({_cause(error)}); check --host or {_ENDPOINT}.") from None


def _limit(client: kfp.Client, seconds: float) -> None:
    rest = client._healthz_api.api_client.rest_client  # the generated client has no public setting for a time limit
    if not isinstance(rest.pool_manager, _InTime):
        rest.pool_manager = _InTime(rest.pool_manager, seconds)


def pages(endpoint: Endpoint, listing: Callable[[str], Any]) -> Iterator[Any]:
    """The pages of a listing, which is called with the token of each page."""
    token = ""  # nosec B105 # a page token, not a password
    while True:
        with asking(endpoint):
            page = listing(token)
        yield page
        token = page.next_page_token
        if not token:
            return


def is_conflict(error: BaseException) -> bool:
    """Whether the API refused the request because an object with this name already exists."""
    return "(409: " in str(error)


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a file with a bearer token.") from None


def _told(error: Any) -> str:
    try:
        body = json.loads(error.body)
        return str(body.get("message") or body.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)


def _cause(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    text = str(inner)
    return text.rpartition(": ")[2] or type(inner).__name__


class _InTime:
    """A connection pool whose requests have a time limit and are not retried; the caller may retry them."""

    def __init__(self, pool: Any, seconds: float) -> None:
        self._pool, self._seconds = pool, seconds

    def request(self, method: str, url: str, **options: Any) -> Any:
        import urllib3

        options["timeout"] = options.get("timeout") or urllib3.Timeout(total=self._seconds)
        return self._pool.request(method, url, **{"retries": False, **options})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
