"""Migrates both databases of MLflow to the schema of this image's MLflow; a new database gets its tables."""

import configparser
import os
import subprocess
import sys

import psycopg

# Any number that no other advisory lock of this database has.
LOCK = 5_000


def main() -> None:
    """Migrate both while holding a lock for which the other replicas wait."""
    tracking = os.environ["MLFLOW_BACKEND_STORE_URI"]
    settings = configparser.ConfigParser()
    settings.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    accounts = settings["mlflow"]["database_uri"]
    # Pods that start together would otherwise create the same tables at once. The lock ends with its connection.
    with psycopg.connect(dbname=tracking.rpartition("/")[2], autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        for command in (["mlflow", "db", "upgrade", tracking],
                        ["mlflow.server.auth", "db", "upgrade", "--url", accounts]):
            subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
