#!/bin/sh
# Dump both databases of MLflow into /backup, each in one consistent snapshot.
set -eu
for database in mlflow mlflow_auth; do
  pg_dump --format=custom --no-owner --no-privileges --file="/backup/$database.dump" "$database"
done
