"""Removes passwords, tokens and keys from everything that is written or printed.

The main function is `redacted`. In doubt it removes too much: its result is only for people and records, and is never
used as an address.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

HIDDEN = "***"
_LONGEST_NAME = 1000

_NAME = (r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|(?:access|secret|private|account|shared)[_-]?key"
         r"(?:[_-]?id)?|signature|credentials?|client[_-]?secret)")

# A quotation mark ends an address where white space, punctuation or the end of the text follows it.
_WORD = r"(?:(?![\"'<>`](?:[\s,:;}\])<>\\]|$))(?![\w+.-]{1,30}://)\S)*"
_ADDRESS = re.compile(rf"(?:(?P<scheme>[\w+.-]{{1,30}}):|(?<![\w:/.]))//(?P<rest>{_WORD})"
                      rf"|(?<![\w/.+%-])(?P<user>[\w.+%-]{{1,64}}):(?!//)(?P<word>{_WORD})")
# The @ after a user and a password, and what follows it: a host, but not a digest.
_HOST = re.compile(r"@(?:\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[\w.-]+)(?::\d{1,5})?(?![\w@])(?!:[0-9a-f]{32})")
# A password that contains white space; after a host this position would be a port.
_SPACED = re.compile(r"(?P<scheme>[\w+.-]{1,30}://)[\w.%+-]{1,64}:(?!\d{1,5}(?:[/?#\s]|$))[^\s@]{0,200}[ \t]"
                     r"(?:(?!://)[^\r\n@]){0,200}@(?=[\w.\[-])")
# Schemes whose first part is a bucket; the path after the bucket may contain an @.
_STORES = {"s3", "s3a", "gs"}
# Addresses whose @ does not follow a user: a model's alias after the port of a server, and a password in a query, which
# is removed by its name.
_NO_USER = re.compile(rf"[\w.-]+:\d{{2,5}}/[^?#@:]*@(?:champion|previous|challenger|latest)(?!\S)"
                      rf"|[\w.-]+(?:/[^?#@:]*)?\?(?:[^@#]*[&;])?[\w.-]*{_NAME}=", re.IGNORECASE)
# A password in a query, or an address that looks like one.
_NAMED_IN_QUERY = re.compile(rf"[\w.-]+:\d{{1,5}}(?:/[^?#@]*)?\?(?:[^@#]*[&;])?[\w.-]*{_NAME}=", re.IGNORECASE)
# Names before `:/` or `:ADDRESS` that are not users.
_NO_USERS = {"models", "runs", "mailto"}
_ENCODED = re.compile(r"(?<![^\s&\"'<>])[^\s&\"'<>]*%(?:25)*40", re.IGNORECASE)
_ENCODED_SCHEME = re.compile(r"%(?:25)*3A%(?:25)*2F%(?:25)*2F", re.IGNORECASE)
_ENCODED_USER = re.compile(r"[\w.+-]{1,64}%(?:25)*3A", re.IGNORECASE)

_SHORT = r"(?:key|sig|auth|pass|pw|jwt|code|session|sas)"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_BARE = r"(?:(?!%(?:25)*26)[^&\s\"'<>])+"
_EQUALS = r"(?:\s*:?=(?:>|(?!=))\s*|%(?:25)*3D)"
_SCHEMES = r"(?:basic|bearer|token|negotiate|digest)\s+"
_AUTHORIZATION = r"\b(?:proxy-)?authorization\\?[\"']?\s*[:=]\s*\\?[\"']?"
_NAMED = tuple(re.compile(pattern, re.IGNORECASE) for pattern in (
    rf"(?P<name>{_NAME}{_EQUALS})(?P<value>{_QUOTED}|{_BARE})",
    rf"(?P<name>(?:[?&;]|%(?:25)*(?:3F|26|3B)){_SHORT}{_EQUALS})(?P<value>{_BARE})",
    rf"(?P<name>(?<![\w-])pw{_EQUALS})(?P<value>{_QUOTED}|{_BARE})",
    rf"(?P<name>(?<![A-Za-z0-9-])pass=(?!=))(?P<value>{_QUOTED}|{_BARE})",
    rf"(?m)^(?P<name>[ \t|]*(?:[\w.]+:[ \t]+)?(?:b?[\"'])?[ \t-]*{_NAME}[ \t]*:[ \t]+)"
    rf"(?P<value>{_QUOTED}|[^\s,;}}\"']+)",
    # Within a sentence the value may be a common word, but common words do not contain both letters and digits.
    rf"(?P<name>\b{_NAME}[ \t]*:[ \t]+)(?P<value>(?=[^\s,;]*[A-Za-z])(?=[^\s,;]*\d)[^\s,;}}\"']{{6,}})",
    rf"(?P<name>{_NAME}\\?[\"']\s*(?::|=>)\s*)(?P<value>{_QUOTED}|\\\"[^\"]*\\\"|[^\s,}}\]]+)",
    rf"(?P<name>(?:\bpass(?:word|wd|phrase)|_(?:pass(?:word)?|token|secret|key))[ \t]*:\s+)"
    rf"(?P<value>{_QUOTED}|[^\s,;}}]+)",
    rf"(?P<name>(?<![\w-])--?(?:[\w-]*{_NAME}|(?:\w+-)*pass)\s+)(?P<value>{_QUOTED}|[^\s\"']+)",
    rf"(?P<name>{_AUTHORIZATION}{_SCHEMES})(?P<value>[^\s\"',]+)",
    r"(?P<name>\b[a-z][\w-]{0,40}-(?:token|key|secret|password|auth)\\?[\"']?\s*[:=]\s*\\?[\"']?)(?P<value>[^\s\"',]+)",
    r"(?P<name>(?<![\w-])(?:-u|--(?:proxy-)?user)(?:\s+|=)[\"']?(?!\d+:\d+(?!\w))[^\s:\"']{1,64}:)(?P<value>[^\s\"']+)",
    rf"(?P<name>auth\\?[\"']?\s*[:=]?\s*[(\[]\s*(?:{_QUOTED})\s*,\s*)(?P<value>{_QUOTED})",
    r"(?P<name>\b(?:login|machine)\s+\S{1,200}\s+password\s+)(?P<value>\S+)",
    rf"(?P<name><[\w:.-]{{0,60}}{_NAME}(?:\s[^<>]{{0,200}})?>)(?P<value>[^<]+)(?=</)",
    r"(?P<name>\b(?:set-)?cookie\\?[\"']?\s*[:=]\s*\\?[\"']?)(?P<value>[^\r\n\"']+)",
    r"(?P<name>\bbearer\s+)(?P<value>[\w.~+/-]{8,}=*)",
    # Last, because the text after the name may be the key itself instead of a scheme, followed by another name.
    rf"(?P<name>{_AUTHORIZATION})(?P<value>(?!{_SCHEMES}|\*\*\*)[^\s\"',]+"
    r"(?:[ \t]+(?!(?:proxy-)?authorization)[^\s\"',]+)?)",
))
# A value that is only a name or a placeholder, not a secret.
_NOT_A_VALUE = re.compile(r"(?:password|passwd|token|secret|key|none|null|\*+)\W*", re.IGNORECASE)
_BASIC = re.compile(r"(\bbasic\s+)([A-Za-z0-9+/_-]{4,}={0,2})", re.IGNORECASE)
_SHAPES = re.compile(
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?:[:/, ]+[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+]))?"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}|dapi[0-9a-f]{32}|npm_[A-Za-z0-9]{20,}"
    r"|pypi-(?:AgE[\w-]{8,}|[\w-]{30,})|ya29\.[\w-]{10,}|dckr_pat_[\w-]{10,}|[sr]k_(?:live|test)_\w{10,}"
    # Only at the beginning of a word: a search inside words would take quadratic time.
    r"|(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2}))eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"
    r"|(?<=PRIVATE KEY-----)[^-]+")
_KEY = re.compile(rf"(?:.*{_NAME}|(?:.*[_-])?pass|.*-(?:key|auth)|(?:proxy-)?authorization|cookie)", re.IGNORECASE)


def redacted(text: str) -> str:
    """`text` without users and passwords before the @ of an address (with or without a scheme), and with *** instead of
    values whose name is that of a password, of authorization headers, and of keys with a known format."""
    if "@" in text:
        text = _ADDRESS.sub(_without_user, _SPACED.sub(r"\g<scheme>", text))
    if "%" in text:
        text = _ENCODED.sub(_without_encoded_user, text)
    for pattern in _NAMED:
        text = pattern.sub(_hidden, text)
    return _SHAPES.sub(HIDDEN, _BASIC.sub(_basic, text))


def redacted_values(value: Any, name: str = "") -> Any:
    """`value` with every text in it redacted; a text is replaced by *** where its `name` or key is that of a password.
    """
    if isinstance(value, Mapping):
        return {redacted(key) if isinstance(key, str) else key: redacted_values(item, str(key))
                for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(item, name) for item in value]
    if isinstance(value, PurePath):
        return redacted_values(str(value), name)
    if isinstance(value, str):
        return HIDDEN if value and is_secret(name) else redacted(value)
    return value


def is_secret(name: str) -> bool:
    """Whether `name` is the name of a password, a token or a key."""
    return len(name) <= _LONGEST_NAME and _KEY.fullmatch(name) is not None


def _without_user(match: re.Match[str]) -> str:
    if match["rest"] is None:
        user, word = match["user"], match["word"]
        if user.lower() in _NO_USERS or (at := _last_host(word)) < 1:
            return match[0]
        return word[at + 1:]
    rest, scheme = match["rest"], match["scheme"] or ""
    if rest.startswith("/"):
        return match[0]
    if _NO_USER.match(rest) or (scheme.lower() in _STORES and not re.match(r"[^/]*[:@]", rest)):
        return match[0]
    if _NAMED_IN_QUERY.match(rest) and _last_host(rest) > 0:
        return f"{scheme and f'{scheme}:'}//{HIDDEN}"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    at = authority.rfind("@")
    # A password may contain / ? or #, which end an authority; but a path with @ may follow a host without a user.
    if ":" in authority or (at < 0 and not re.fullmatch(r"localhost|[\w-]+(?:\.[\w-]+)+", authority)):
        at = max(at, _last_host(rest))
    return f"{scheme and f'{scheme}:'}//{rest[at + 1:]}"


def _without_encoded_user(match: re.Match[str]) -> str:
    if scheme := _ENCODED_SCHEME.search(match[0]):
        return match[0][:scheme.end()]
    user = _ENCODED_USER.search(match[0])
    return match[0][:user.start()] if user else match[0]


def _last_host(text: str) -> int:
    """The position of the last @ that is followed by a host; -1 if there is none."""
    return max((found.start() for found in _HOST.finditer(text)), default=-1)


def _hidden(match: re.Match[str]) -> str:
    value = match["value"]
    # MLflow prints a model's signature, which is not a secret: (images float32 ...
    described = value.startswith("(") and match["name"].strip().lower() == "signature:"
    return match[0] if described or _NOT_A_VALUE.fullmatch(value) else match["name"] + HIDDEN


def _basic(match: re.Match[str]) -> str:
    try:
        user = b":" in base64.b64decode(match[2] + "=" * (-len(match[2]) % 4), altchars=b"-_" if
                                        set("-_") & set(match[2]) else None)
    except (binascii.Error, ValueError):
        user = False
    return match[1] + HIDDEN if user else match[0]
