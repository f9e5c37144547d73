"""Addresses of MLflow: their kind, what is wrong with them, and how they are shown without a password.

An address is wrong if it cannot be that of a server or a database. Whether anything answers there is not asked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from parapet.quoting import words
from parapet.redaction import redacted

SERVERS = ("http", "https")
# Databases with a server of their own, and the port that it listens on unless told otherwise.
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_FOLDERS = ("", "file")
# MLflow takes these without a colon too.
_NAMES = ("databricks", "databricks-uc")
_MEMORY = re.compile(r"[\w+]+:(?://|///(?:(?:file:)?:memory:)?)?(?:\?.*)?|.*[?&]mode=memory(?:&.*)?", re.DOTALL)
# RFC 1035, section 2.3.4.
_LONGEST_LABEL, _LONGEST_HOST = 63, 253
# Characters in a password at which `redacted` would see the end of an address, or the start of another one.
_ODD = re.compile(r"[\s\"'<>`]|://")


def kind(uri: str) -> str:
    """The scheme in lower case, without the name of a driver; empty where there is none."""
    scheme = re.match(r"([A-Za-z][\w.-]*)(?:\+[\w.+-]*)?:", uri)
    return scheme[1].lower() if scheme else uri if uri in _NAMES else ""


def sqlite_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for other URIs, for databases in memory and for SQLite's own addresses (file:)."""
    match = re.match(r"sqlite(?:\+\w+)?:///(?!file:)([^?]+)", uri)
    if match is None or match[1] == ":memory:" or re.search(r"[?&]mode=memory\b", uri):
        return None
    return Path(unquote(match[1]))


def shown(uri: str) -> str:
    """`uri` for messages and records: without user and password, whatever characters these have."""
    if sqlite_path(uri) is not None:
        return redacted(uri)
    scheme, mark, rest = uri.partition("://")
    scheme, rest = (scheme, rest) if mark else ("", uri)
    if _ODD.search(rest):
        rest = rest.rpartition("@")[2]
    return redacted("".join(quote(sign, errors="replace") if _ODD.match(sign) or not sign.isprintable() else sign
                            for sign in f"{scheme}{mark}{rest}"))


def address_problem(uri: str) -> str | None:
    """Why `uri` cannot be the address of an MLflow, as one sentence; None where it can."""
    if kind(uri) in _FOLDERS:
        return (f"MLflow no longer keeps runs in folders, and {words(shown(uri))!r} is one; use sqlite:///FILE.db or "
                "the address of a server.")
    why = _sqlite_fault(uri) if kind(uri) == "sqlite" else _fault(uri)
    return None if why is None else (
        f"the address of MLflow, MLFLOW_TRACKING_URI, is {words(shown(uri))}, {why}; use the http:// or https:// "
        "address of a server, or sqlite:///FILE.db, postgresql://, mysql:// or mssql://.")


def _sqlite_fault(uri: str) -> str | None:
    if sqlite_path(uri) is not None:
        return None
    if _MEMORY.fullmatch(uri):
        return "and a database in memory is gone when this program ends"
    return "which names no file in the way that is needed"


def _fault(uri: str) -> str | None:
    if not uri.isprintable() or re.search(r"\s", uri):
        return "and was given with white space in it; in a password a space is written as %20"
    try:
        parts = urlsplit(uri)  # MLflow reads every address with this
    except ValueError:
        return "whose host cannot be read; in a password [ is written as %5B, ] as %5D and / as %2F"
    if kind(uri) in SERVERS:
        if not parts.hostname:
            return _port_fault(lambda: parts.port) or "which names no host"
        bracket = re.fullmatch(r"\[[^\]]*\](?::\d*)?", parts.netloc.rpartition("@")[2])
        if "[" in parts.netloc.rpartition("@")[2] and not bracket:
            return "whose host cannot be read: nothing but a port may follow the brackets"
        return _port_fault(lambda: parts.port) or _host_fault(parts.hostname, bracketed=bracket is not None)
    if kind(uri) not in DATABASES:
        return None  # Databricks and plugins: only MLflow itself can tell
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        if (fault := _port_fault(lambda: make_url(uri).port)) is not None:
            return fault
        host = make_url(uri).host
        return None if not host else _host_fault(host, bracketed=":" in host)
    except ArgumentError:
        return "which is no address of a database"


def _host_fault(host: str, *, bracketed: bool = False) -> str | None:
    """Why `host` cannot be a host name or, where it is in brackets, an IPv6 address."""
    if bracketed:
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            return "whose host is in brackets and no IPv6 address"
        return None
    try:
        labels = [label.encode("idna") for label in host.removesuffix(".").split(".")]
    except UnicodeError:
        labels = [b""]
    fit = all(0 < len(label) <= _LONGEST_LABEL and b"*" not in label for label in labels)
    if not fit or len(b".".join(labels)) > _LONGEST_HOST:
        return (f"whose host is no name: between its dots stand 1 to {_LONGEST_LABEL} characters, and at most "
                f"{_LONGEST_HOST} in all")
    return None


def _port_fault(port: Callable[[], int | None]) -> str | None:
    try:
        given = port()
    except ValueError:
        given = 0
    return None if given is None or 0 < given < 65536 else (
        "whose port is no number from 1 to 65535; in a password / is written as %2F, ? as %3F and # as %23")
