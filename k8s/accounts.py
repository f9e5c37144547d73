"""Creates accounts of MLflow and their permissions: `python k8s/accounts.py NAME --experiment parapet --model digits`.

Run by an administrator, with MLFLOW_TRACKING_URI, _USERNAME, _PASSWORD and _SERVER_CERT_PATH set. Creates the account
(its password is read from the terminal, or from standard input), the experiments and the registered models where they
are missing, and grants the account the right to change them, or with --read-only to read them.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient

# Each model has a second one beside it: the queue of its promotions.
QUEUE = ".promotion-lock"


def grant(uri: str, name: str, password: str | None, experiments: list[str], models: list[str],
          permission: str) -> None:
    """Grant the account `name` a `permission` on experiments and models, which are created where they are missing."""
    accounts, client = AuthServiceClient(uri), MlflowClient(uri, uri)
    if password is not None:
        accounts.create_user(name, password)
    for experiment in experiments:
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        accounts.grant_user_permission(name, "experiment", number, permission)
        print(f"{name} has {permission} on the experiment {experiment}")
    for model in [f"{each}{ending}" for each in models for ending in ("", QUEUE)]:
        try:
            client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        accounts.grant_user_permission(name, "registered_model", model, permission)
        print(f"{name} has {permission} on the registered model {model}")


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, ask for a password where the account is new, and grant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="the account")
    parser.add_argument("--experiment", action="append", default=[], help="may be given more than once")
    parser.add_argument("--model", action="append", default=[], help="a registered model; may be given more than once")
    parser.add_argument("--read-only", action="store_true", help="may look at them and change nothing")
    options = parser.parse_args(arguments)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith("https://"):
        sys.exit("MLFLOW_TRACKING_URI is no https:// address; set it, for example to https://localhost:5000.")
    password = None
    try:
        AuthServiceClient(uri).get_user(options.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            sys.exit(f"MLflow refused: {' '.join(str(error).split())}")
        asked = f"password of the new account {options.name}, 12 characters or more: "
        password = getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    grant(uri, options.name, password, options.experiment, options.model, "READ" if options.read_only else "MANAGE")
    return 0


if __name__ == "__main__":
    sys.exit(main())
