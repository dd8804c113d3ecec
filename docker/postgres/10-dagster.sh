#!/usr/bin/env bash
# Run once by the PostgreSQL image, on an empty data volume: Dagster's own storage gets a database and a login of its
# own, so that the webserver and the daemon hold no password that reaches the zones.
set -euo pipefail

# The password goes in by the environment: an argument would show in the process list.
psql --set ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password DAGSTER_DB_PASSWORD
CREATE ROLE dagster_storage LOGIN PASSWORD :'password';
CREATE DATABASE dagster_storage OWNER dagster_storage;
REVOKE ALL ON DATABASE dagster_storage FROM PUBLIC;
SQL
