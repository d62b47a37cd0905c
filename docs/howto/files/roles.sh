#!/bin/sh
# /docker-entrypoint-initdb.d/roles.sh: what the owner makes from now on, the supervisor may use.
set -e
psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --set password="$SUPERVISOR_PASSWORD" <<'SQL'
CREATE ROLE site_supervisor LOGIN PASSWORD :'password';
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO site_supervisor;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO site_supervisor;
SQL
