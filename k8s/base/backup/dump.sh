#!/bin/sh
# Dump both databases of MLflow into /backup, each as it is at one moment.
set -eu
for database in mlflow mlflow_auth; do
  pg_dump --format=custom --no-owner --no-privileges --file="/backup/$database.dump" "$database"
done
