#!/usr/bin/env bash
# Prepares this checkout for work: a Java runtime for Spark and a .venv that holds exactly requirements.lock.
#
# Promise: on return 0 `.venv` matches the lock and the project is installed in it (editable). Idempotent; a second
# run returns at once (a stamp in .venv remembers what it was made from); a .venv left half-finished is made anew.
# Needs Python >= 3.11 (or uv, which can bring one) and, outside Debian/Ubuntu as root, Java >= 17; says what to run
# when something is missing. Writes nothing outside the checkout, except packages by apt-get where it is root.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly root=$PWD venv=.venv lock=requirements.lock
readonly stamp=$venv/.bootstrap-stamp building=$venv/.bootstrap-building classes=$venv/spark-classes
readonly minimum_java=17
# The lower and upper bound of `requires-python` in pyproject.toml, as uv and this script's own probe read it.
python_range=$(sed -n 's/^requires-python *= *"\(.*\)"/\1/p' pyproject.toml)
readonly python_range

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

checksum() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# What .venv is made from. The path belongs to it: an environment cannot be moved.
fingerprint() { { printf '%s\n' "$root"; cat "$lock" pyproject.toml scripts/bootstrap.sh; } | checksum | cut -d' ' -f1; }

java_program() {
  if [[ -n ${JAVA_HOME:-} ]]; then printf '%s/bin/java' "$JAVA_HOME"; else command -v java || true; fi
}

# The major version of the Java that Spark would use ("1.8.0" is 8), or 0 where there is none.
java_major() {
  local program version
  program=$(java_program)
  [[ -n $program && -x $program ]] || { echo 0; return; }
  version=$("$program" -version 2>&1 | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1)
  echo "${version:-0}"
}

can_apt() { [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; }

apt_updated=
apt_refresh() {
  [[ -n $apt_updated ]] || apt-get update -qq >&2 || die "apt-get update failed; see the message above"
  apt_updated=1
}

apt_install() {
  apt_refresh
  say "installing $* with apt-get"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 \
    || die "apt-get install $* failed; see the message above"
}

ensure_java() {
  local found package
  found=$(java_major)
  (( found >= minimum_java )) && return
  # An explicit JAVA_HOME wins over anything that could be installed, so installing would not help.
  [[ -z ${JAVA_HOME:-} ]] \
    || die "JAVA_HOME ($JAVA_HOME) holds no Java >= $minimum_java; point it at one, or unset it, and try again"
  if can_apt; then
    apt_refresh
    # Newer releases of Debian no longer carry 17; Spark runs on 21 as well.
    for package in openjdk-17-jre-headless openjdk-21-jre-headless; do
      if [[ -n $(apt-cache madison "$package" 2>/dev/null) ]]; then apt_install "$package"; break; fi
    done
    (( $(java_major) >= minimum_java )) && return
  fi
  case $(uname -s) in
    Darwin) die "Java >= $minimum_java is missing. Run: brew install openjdk@17, then set JAVA_HOME as it says" ;;
    *) if command -v apt-get >/dev/null; then
         die "Java >= $minimum_java is missing. Run: sudo apt-get update && sudo apt-get install -y openjdk-17-jre-headless"
       fi
       die "Java >= $minimum_java is missing. Install a JRE of your distribution (OpenJDK 17 or 21) and try again" ;;
  esac
}

# Whether this Python works and lies inside requires-python. Asked by running it: a shim may exist and still fail.
python_fits() {
  local lower upper
  lower=$(sed -n 's/.*>=3\.\([0-9]*\).*/\1/p' <<<"$python_range")
  upper=$(sed -n 's/.*<3\.\([0-9]*\).*/\1/p' <<<"$python_range")
  "$1" -c "import sys; sys.exit(not ((3, ${lower:-11}) <= sys.version_info[:2] < (3, ${upper:-99})))" >/dev/null 2>&1
}

find_python() {
  local name
  for name in python3 python3.12 python3.11 python3.13 python; do
    if python_fits "$name"; then command -v "$name"; return; fi
  done
}

# A uv that works: the one on PATH, or the one that an earlier run put into .venv.
find_uv() {
  local name
  for name in uv "$root/$venv/bin/uv"; do
    if "$name" --version >/dev/null 2>&1; then echo "$name"; return; fi
  done
}

# Creates an empty .venv, marked as unfinished until everything is in it; prints the uv to use.
create_venv() {
  local uv python package versioned
  rm -rf "$venv"
  uv=$(find_uv)
  if [[ -n $uv ]]; then
    "$uv" venv --quiet --python "$python_range" "$venv" >&2 \
      || die "no Python $python_range could be had. Install one and try again"
    : >"$building"
    echo "$uv"
    return
  fi
  python=$(find_python)
  if [[ -z $python ]] && can_apt; then
    apt_install python3
    python=$(find_python)
  fi
  [[ -n $python ]] || die "no Python $python_range on PATH. Install one (or uv, which brings its own) and try again"
  if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    can_apt || die "$python cannot make environments. Run: sudo apt-get install -y python3-venv"
    # The versioned package, for a Python that is not the distribution's default one.
    apt_refresh
    package=python3-venv
    versioned=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    [[ -z $(apt-cache madison "$versioned" 2>/dev/null) ]] || package=$versioned
    apt_install "$package"
  fi
  "$python" -m venv "$venv" >&2 || die "$python could not make $venv; see the message above"
  : >"$building"
  # The locked version, so that the sync that follows keeps it.
  "$venv/bin/python" -m pip install --quiet "$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' "$lock")" >&2 \
    || die "uv could not be installed with pip; see the message above"
  echo "$root/$venv/bin/uv"
}

install_locked() {
  local uv=$1
  # Bytecode now, once and on all cores, instead of at every first import (never, where writing it is turned off).
  VIRTUAL_ENV=$root/$venv "$uv" pip sync --quiet --compile-bytecode "$lock" >&2 \
    && VIRTUAL_ENV=$root/$venv "$uv" pip install --quiet --no-deps --no-build-isolation --editable . >&2
}

# Every file that an installed package lists is there (bytecode aside), and every requirement is met by the lock.
verify_venv() {
  "$venv/bin/python" - <<'PY' && VIRTUAL_ENV=$root/$venv "$1" pip check --quiet >&2
import os, sys
from importlib.metadata import distributions

missing = sorted(
    {d.name for d in distributions() for f in d.files or () if f.suffix != ".pyc" and not os.path.exists(f.locate())}
)
if missing:
    sys.exit("setup: files are missing of: " + ", ".join(missing))
PY
}

# What the archive of Spark's classes is made of: this Java and these jars.
classes_of() { { readlink -f "$(java_program)"; stat -L -c '%s %Y' "$(java_program)"; grep '^pyspark==' "$lock"; } 2>&1; }

# Sessions start faster with it. Without it they start as well, so nothing fails here.
archive_classes() {
  [[ -f $classes.stamp && $(<"$classes.stamp") == "$(classes_of)" ]] && return
  say "archiving the classes that Spark loads, so that its sessions start faster"
  "$venv/bin/python" -m privacy_platform.engine.class_archive >&2 || say "they start slower, then; nothing else is amiss"
  classes_of >"$classes.stamp"
}

main() {
  [[ -f $lock ]] || die "$lock is missing; make it with: make lock"
  local want uv java
  want=$(fingerprint)
  java=$(java_program)
  if [[ -x $venv/bin/python && -x $java && -f $stamp && $(<"$stamp") == "$want" ]]; then archive_classes; return; fi

  # One set-up at a time in one checkout; who waited finds the work done.
  if command -v flock >/dev/null; then
    exec 9<"$root"
    flock 9
    if [[ -x $venv/bin/python && -x $java && -f $stamp && $(<"$stamp") == "$want" ]]; then return; fi
  fi

  ensure_java
  say "installing the locked packages into $venv (some minutes the first time)"
  uv=$(find_uv)
  if [[ -n $uv && ! -e $building ]] && python_fits "$venv/bin/python"; then
    rm -f "$stamp"
    # An environment that was finished once: only what changed. Made anew where that does not succeed.
    if install_locked "$uv" && verify_venv "$uv"; then
      archive_classes
      printf '%s\n' "$want" >"$stamp"
      say "done"
      return
    fi
    say "$venv is damaged; making it anew"
  fi
  uv=$(create_venv)
  install_locked "$uv" || die "the locked packages could not be installed; see the message above"
  verify_venv "$uv" || die "the environment is not whole; see the message above, and: make clean setup"
  archive_classes
  printf '%s\n' "$want" >"$stamp"
  rm -f "$building"
  say "done"
}

main "$@"
