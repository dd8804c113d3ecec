#!/usr/bin/env bash
# Runs the given command; where SPARK_AUTH_SECRET is set, with Spark settings that hold it.
#
# A driver takes the cluster's secret from its settings only (the environment serves executors alone), and as an
# argument it would show in the process list: so it goes into a private copy of the settings.
set -euo pipefail

if [[ -n ${SPARK_AUTH_SECRET:-} ]]; then
  umask 077
  directory=$(mktemp -d)
  cp "$SPARK_CONF_DIR/spark-defaults.conf" "$directory/"
  printf '\nspark.authenticate.secret %s\n' "$SPARK_AUTH_SECRET" >>"$directory/spark-defaults.conf"
  export SPARK_CONF_DIR=$directory
  unset SPARK_AUTH_SECRET
  umask 022
fi
exec "$@"
