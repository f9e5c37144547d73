"""Bring both databases of MLflow to the schema of the MLflow in this image; a new database gets its tables."""

import configparser
import os
import subprocess
import sys

import psycopg

# Any number will do, as long as nobody else's lock in this database has it.
LOCK = 5_000


def main() -> None:
    """Migrate both, while holding a lock that the other replicas wait for."""
    tracking = os.environ["MLFLOW_BACKEND_STORE_URI"]
    settings = configparser.ConfigParser()
    settings.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    accounts = settings["mlflow"]["database_uri"]
    # Pods that start together would otherwise create the same tables at once. The lock goes with its connection.
    with psycopg.connect(dbname=tracking.rpartition("/")[2], autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        for command in (["mlflow", "db", "upgrade", tracking],
                        ["mlflow.server.auth", "db", "upgrade", "--url", accounts]):
            subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
