#!/bin/sh
# Restore both databases of MLflow from the dumps in /backup; they must exist, and nobody may use them meanwhile.
set -eu
for database in mlflow mlflow_auth; do
  pg_restore --list "/backup/$database.dump" > /dev/null
done
for database in mlflow mlflow_auth; do
  # Drop everything, including tables of a newer MLflow, with which its later migrations would collide.
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$database" \
    --command="DROP SCHEMA IF EXISTS public CASCADE" --command="CREATE SCHEMA public"
  pg_restore --no-owner --no-privileges --exit-on-error --single-transaction --dbname="$database" \
    "/backup/$database.dump"
done
