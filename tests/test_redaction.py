"""Passwords are taken out of every form that they come in, and nothing else is."""

from __future__ import annotations

import base64
import itertools
import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from parapet.redaction import HIDDEN, redacted, redacted_values

SECRET = "hunter2Xq9"
# Each with the secret in it, and what is left of it; None where only the secret's absence counts.
FORMS = [
    (f"http://alice:{SECRET}@mlflow.example:5000", "http://mlflow.example:5000"),
    (f"https://{SECRET}@mlflow.example/api", "https://mlflow.example/api"),
    (f"author:{SECRET}@host", "host"), (f"from:{SECRET}@host", "host"), (f"file:{SECRET}@host", "host"),
    (f"http://alice:S3/{SECRET}@host:x", "http://host:x"), (f"http://a:b/{SECRET}@[fe80::1%eth0]", None),
    (f"https://:{SECRET}@mlflow.example/api", "https://mlflow.example/api"),
    (f"alice:{SECRET}@mlflow.example:5000", "mlflow.example:5000"),
    (f"the server alice:{SECRET}@host, which is away", "the server host, which is away"),
    (f"postgresql+psycopg://alice:{SECRET}@db.example:5432/mlflow?sslmode=require",
     "postgresql+psycopg://db.example:5432/mlflow?sslmode=require"),
    (f"http://alice:{SECRET}@[::1]:5000/", "http://[::1]:5000/"),
    (f"//alice:{SECRET}@mlflow.example:5000", "//mlflow.example:5000"), (f"'//{SECRET}@host'", "'//host'"),
    (f"http://alice:p@{SECRET}@host:1/x", "http://host:1/x"),
    (f"http://alice:p/{SECRET}@host:1/x", "http://host:1/x"),
    (f"http://alice:12/{SECRET}@host:1/x", "http://host:1/x"),
    (f"http://alice:p?{SECRET}@host", "http://host"),
    (f"http://alice:p#{SECRET}@host", "http://host"),
    (f"http://alice:p@s/{SECRET}@host", "http://host"),
    (f"http://alice:a:b%{SECRET}:c@host", "http://host"),
    (f"http://alice:it's\"{SECRET}@host", "http://host"),
    (f"alice:a/b@{SECRET}:c?d%41@host:99", "host:99"),
    (f"http://alice:{quote('@/:%' + SECRET, safe='')}@host", "http://host"),
    (f"http://host/?password={SECRET}&x=1", f"http://host/?password={HIDDEN}&x=1"),
    (f"http://host/?x=1&token={SECRET}", f"http://host/?x=1&token={HIDDEN}"),
    (f"http://host/?key={SECRET}#there", None),
    (f"https://store/x?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&se=1",
     f"https://store/x?X-Amz-Credential={HIDDEN}&X-Amz-Signature={HIDDEN}&se=1"),
    (f"https://blob/x?sv=2022&sig={SECRET}%3D", f"https://blob/x?sv=2022&sig={HIDDEN}"),
    (f"s3://bucket/x?access_key={SECRET}&secret={SECRET}", f"s3://bucket/x?access_key={HIDDEN}&secret={HIDDEN}"),
    (f"http://host/login?next=http%3A%2F%2Falice%3A{SECRET}%40host", "http://host/login?next=http%3A%2F%2Fhost"),
    (f"http://host/login?next=http%253A%252F%252Falice%253A{SECRET}%2540host", None),
    (f"http://host/login?next=x%3Fpassword%3D{SECRET}%26y%3D1", None),
    (f"alice%3A{SECRET}%40host", "host"),
    (f"host=db password={SECRET} dbname=mlflow", f"host=db password={HIDDEN} dbname=mlflow"),
    (f"host=db password='{SECRET} two words' dbname=mlflow", f"host=db password={HIDDEN} dbname=mlflow"),
    (f"MLFLOW_TRACKING_TOKEN={SECRET}", f"MLFLOW_TRACKING_TOKEN={HIDDEN}"),
    (f"AWS_SECRET_ACCESS_KEY={SECRET}/+abc", f"AWS_SECRET_ACCESS_KEY={HIDDEN}"),
    (f"MLFLOW_TRACKING_PASSWORD: {SECRET}", f"MLFLOW_TRACKING_PASSWORD: {HIDDEN}"),
    (f"password: {SECRET}", f"password: {HIDDEN}"), (f"host=db pw={SECRET}", f"host=db pw={HIDDEN}"),
    *((f"Traceback:\n{begun}token: {SECRET}{ended}", f"Traceback:\n{begun}token: {HIDDEN}{ended}") for begun, ended in (
        ("    | ValueError: ", ""), ("requests.Timeout: ", ""), ("KeyError: '", "'"), ("ValueError: b'", "'"),
        ("ValueError: cannot log in with ", ""))),
    (f"Traceback:\nmlflow.RestException: token: {SECRET}", f"Traceback:\nmlflow.RestException: token: {HIDDEN}"),
    (f"store:\n  - token: {SECRET}\n  api_key: '{SECRET} b'\n", f"store:\n  - token: {HIDDEN}\n  api_key: {HIDDEN}\n"),
    (f"unrecognized arguments: --token {SECRET}", f"unrecognized arguments: --token {HIDDEN}"),
    (f"unrecognized arguments: --api-key={SECRET}", f"unrecognized arguments: --api-key={HIDDEN}"),
    (f'{{"user": "alice", "password": "{SECRET}\\" more", "n": 1}}',
     f'{{"user": "alice", "password": {HIDDEN}, "n": 1}}'),
    (f"{{'api_key': '{SECRET}'}}", f"{{'api_key': {HIDDEN}}}"),
    (f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {HIDDEN}"),
    (f"Authorization: Basic {base64.b64encode(f'alice:{SECRET}'.encode()).decode()}",
     f"Authorization: Basic {HIDDEN}"),
    (f"{{'Authorization': 'Bearer {SECRET}', 'Accept': '*/*'}}",
     f"{{'Authorization': 'Bearer {HIDDEN}', 'Accept': '*/*'}}"),
    (f"sent Bearer {SECRET} to it", f"sent Bearer {HIDDEN} to it"),
    (f"X-Api-Key: {SECRET}", f"X-Api-Key: {HIDDEN}"),
    *((f"{name}: {SECRET}", f"{name}: {HIDDEN}") for name in (
        "PRIVATE-TOKEN", "X-Vault-Token", "x-goog-api-key", "X-Amz-Security-Token", "Ocp-Apim-Subscription-Key",
        "Authorization", "X-Auth-Token", "DB_PASS", "Password ", "X-Shared-Secret")),
    *((f"{{'{name}': '{SECRET}'}}", None) for name in ("PRIVATE-TOKEN", "X-Vault-Token", "Ocp-Apim-Subscription-Key")),
    (f"Authorization: ApiKey {SECRET}", f"Authorization: {HIDDEN}"),
    (f"Authorization: {SECRET} was refused", f"Authorization: {HIDDEN} refused"),
    (f"{{'Authorization': 'ApiKey {SECRET}', 'Accept': '*/*'}}", f"{{'Authorization': '{HIDDEN}', 'Accept': '*/*'}}"),
    (f"DB_PASS={SECRET}", f"DB_PASS={HIDDEN}"), (f"host=db pass={SECRET}", f"host=db pass={HIDDEN}"),
    (f"password => {SECRET}", f"password => {HIDDEN}"), (f"password := {SECRET}", f"password := {HIDDEN}"),
    (f"{{'password' => '{SECRET}'}}", None), (f"the Password : {SECRET}", f"the Password : {HIDDEN}"),
    (f"curl -u alice:{SECRET} http://host", f"curl -u alice:{HIDDEN} http://host"),
    (f"curl --user alice:{SECRET} http://host", f"curl --user alice:{HIDDEN} http://host"),
    (f"curl --user='alice:{SECRET}' http://host", None), (f"tool --pass {SECRET} x", f"tool --pass {HIDDEN} x"),
    (f"get(url, auth=('alice', '{SECRET}'))", f"get(url, auth=('alice', {HIDDEN}))"),
    (f"{{'auth': ['alice', '{SECRET}']}}", None), (f"HTTPBasicAuth('alice', '{SECRET}')", None),
    (f"machine h login a password {SECRET}", f"machine h login a password {HIDDEN}"),
    (f"machine h\n  login a\n  password {SECRET}\n", f"machine h\n  login a\n  password {HIDDEN}\n"),
    (f"<user>a</user><password>{SECRET}</password>", f"<user>a</user><password>{HIDDEN}</password>"),
    (f"<db:Password kind='x'>{SECRET}</db:Password>", None),
    (f"sqlite://alice:{SECRET}@host/x", "sqlite://host/x"), (f"file://alice:{SECRET}@host/x", "file://host/x"),
    (f"http://alice:x {SECRET}@host:1/x", "http://host:1/x"), (f"https://alice:{SECRET} x y@[::1]/", "https://[::1]/"),
    (f"'postgresql+psycopg://alice:it's {SECRET}@db/x' is away", "'postgresql+psycopg://db/x' is away"),
    (f"http://host/?token=Q@{SECRET}", f"http://host/?token={HIDDEN}"),
    (f"http://mlflow:5000/x?token=Q@{SECRET}", f"http://{HIDDEN}"),
    (f"http://alice:12/{SECRET}?token=b@host", f"http://{HIDDEN}"),
    (f"http://alice:1234/{SECRET}@127.0.0.1", "http://127.0.0.1"), (f"s3://{SECRET}@bucket/x", None),
    (f"Cookie: session={SECRET}; theme=dark", f"Cookie: {HIDDEN}"),
    (f"http://a:{SECRET}@one/ and http://b:{SECRET}@two/", "http://one/ and http://two/"),
    (f"http://a:{SECRET}@one,http://b:{SECRET}@two", None),
    (f"a:{SECRET}@one,b:{SECRET}@two", None),
    (f"No such file or directory: 'https://alice:{SECRET}@host/net.pt2'",
     "No such file or directory: 'https://host/net.pt2'"),
    (f"HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /health?token={SECRET} (Caused by", None),
    (f"(psycopg.OperationalError) of postgresql://alice:{SECRET}@db/x (Background on this error at: https://sqlalche.me)",
     "(psycopg.OperationalError) of postgresql://db/x (Background on this error at: https://sqlalche.me)"),
]
SHAPES = ["npm_" + "a1B2" * 9, "pypi-AgEIcHlwaS5vcmcC" + "x-Y_" * 9, "ya29.a0Af" + "x1-Y" * 9, "dckr_pat_" + "x1Y-" * 6,
          "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "ghp_" + "a1B2" * 9,
          "hf_" + "a1B2" * 8, "glpat-" + "x1Y2" * 5, "dapi" + "0123abcd" * 4,
          "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP", "Basic " + base64.b64encode(b"alice:pw").decode()]
UNTOUCHED = [
    "alice@example.com", "mailto:alice@example.com", "write to alice@example.com, or bob@example.org.",
    "requirements.txt@v1.2", "actions/checkout@v4", "parapet@sha256:" + "0f" * 32,
    "registry.example:5000/team/parapet@sha256:" + "9a" * 32,
    "https://registry.example:5000/team/parapet@sha256:" + "9a" * 32,
    "models:/parapet@champion", "the alias models:/shop 1@champion", "runs:/0123/model@x",
    "https://github.com/team/repo@v1.2",
    "http://mlflow:5000 by alice@host", "http://host:80/x and mail to alice@host",
    "http://mlflow:5000/api/2.0/models@champion", "s3://bucket/x@y", "s3://bucket/a/b@v1.2/c:d",
    "signature: (images float32 (-1, 1, 8, 8)) -> (logits float32 (-1, 10))", "docker run -u 1000:1000 image",
    "one pass = 3 epochs", "a bypass=3", "use <password> or <token>", "key: 3, low: 4",
    "//host/share", "http://host//a/b", "sqlite:///mlflow.db", "sqlite:////data/team@host/a:b@c.db", "sqlite+pysqlite:////data/x@y/mlflow.db",
    "file:///data/a:b@c", "http://127.0.0.1:5000/#/experiments/1/runs/2", "http://[::1]:5000", "12:30 by alice@host",
    "git@github.com:team/repo.git", "epoch 3/8  loss 0.41  robust 88.1 % (PGD-5)", "seed: 0, key: value, a token",
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) to those of a user",
    "give a bearer token with --token-file, or run in a pod", "Basic accuracy of the Bearer",
    "{name: mlflow-client, variables: {MLFLOW_TRACKING_PASSWORD: password}}", "",
]


@pytest.mark.parametrize(("text", "left"), FORMS)
def test_every_form_of_a_secret_is_taken_out(text: str, left: str | None) -> None:
    found = redacted(text)
    assert SECRET not in found
    assert left is None or found == left
    assert redacted(found) == found


@pytest.mark.parametrize("text", SHAPES)
def test_keys_are_known_by_their_shape(text: str) -> None:
    assert redacted(f"see {text}, then") in (f"see {HIDDEN}, then", f"see Basic {HIDDEN}, then")


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_passwords_of_any_signs_are_taken_out_with_and_without_a_scheme() -> None:
    for signs in itertools.product("@/:%?#&=+'\"$", repeat=2):
        password = f"Q{signs[0]}{SECRET}{signs[1]}Z"
        for text in (f"http://alice:{password}@host:5000/x", f"alice:{password}@host:5000", f"x 'http://a:{password}@h'"):
            assert SECRET not in redacted(text), text


def test_two_secrets_in_one_text_are_both_taken_out() -> None:
    for (first, _), (second, _) in itertools.product(FORMS, repeat=2):
        assert SECRET not in redacted(f"{first} {second}\n{first}")


def test_values_are_redacted_wherever_they_stand_and_by_their_names() -> None:
    values = {"root": Path("/data"), "uri": f"http://a:{SECRET}@h", "n": 3, "none": None,
              "list": [f"alice:{SECRET}@h", {"password": SECRET, "api_key": "", "tokens": 5}]}
    assert redacted_values(values) == {"root": "/data", "uri": "http://h", "n": 3, "none": None,
                                       "list": ["h", {"password": HIDDEN, "api_key": "", "tokens": 5}]}


def test_long_texts_take_no_long_time() -> None:
    def late(*_: object) -> None:
        raise TimeoutError("a text of 60,000 characters took more than 20 seconds")
    before = signal.signal(signal.SIGALRM, late)
    try:
        for part in ("a", "a:", "@", "://", "a:b@", "%3A", "'", "password=", "http://a:", "x@y:", "--token ",
                     "basic a ", "-", "--", "-a", "_", " -", "password ", "authorization:", "'password' ", "%40",
                     "%2540", "eyJ", "eyJ-", "%20eyJ", "-token", "a-", "login ", "machine a ", "auth('", "<password>",
                     "<", "-u a", "-u ", "authorization: a ", "pass", "--a-", "pypi-", "?token=", "s3://", "h:80/",
                     "password :", "http://a:b c", "http://a: ", "x://a:b @"):
            signal.alarm(20)
            assert SECRET not in redacted(part * (60_000 // len(part)) + f" password={SECRET}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
