#!/usr/bin/env bash
# Runs a command where it can reach nothing but itself: own network (loopback only), and, where
# the machine allows it, own process table, mounts and System V memory, so that whatever a failed
# test leaves behind ends with the command.
#
#   in-namespace.sh COMMAND [ARGUMENT…]
#
# Exit status: the command's; 125 when no namespace can be made.
set -euo pipefail

readonly PRIVATE="--mount --ipc --pid --fork --kill-child --mount-proc"

fail() {
  printf 'in-namespace: error: %s\nin-namespace: hint: %s\n' "$1" "$2" >&2
  exit 125
}

# The first process of the new namespaces. It stays and waits, for two reasons: process 1 must
# reap what others orphan (a dead postmaster counts as running until then), and it ends last.
inside() {
  ip link set lo up
  run "$@"
}

# Runs the command with a folder for the tests' files (testbed::Workdir), removed afterwards: a
# test that was terminated could not do so itself.
run() {
  local status=0 folder
  folder=$(mktemp -d /tmp/rf-run-XXXX)
  chmod 755 "$folder"
  ROLLFORWARD_WORKDIR=$folder "$@" || status=$?
  rm -rf "$folder" || true
  exit "$status"
}

# Without root: become root of a user namespace to set the network up, then oneself again,
# because PostgreSQL refuses root even there.
inside_unprivileged() { # UID GID COMMAND…
  local uid=$1 gid=$2
  shift 2
  ip link set lo up
  exec unshare --user --map-user="$uid" --map-group="$gid" -- "$self" --run "$@"
}

self=$(realpath "$0")
case ${1:-} in
  --run) shift; run "$@" ;;
  --inside) shift; inside "$@" ;;
  --inside-unprivileged) shift; inside_unprivileged "$@" ;;
  '') fail "no command given" "in-namespace.sh COMMAND [ARGUMENT…]" ;;
esac

if [ "$(id -u)" = 0 ]; then
  # shellcheck disable=SC2086 # a list of words
  if unshare --net $PRIVATE true 2>/dev/null; then
    exec unshare --net $PRIVATE -- "$self" --inside "$@"
  fi
  unshare --net true || fail "this machine forbids network namespaces" "run with CAP_SYS_ADMIN"
  exec unshare --net -- "$self" --inside "$@"
fi
unshare --map-root-user --net true \
  || fail "this machine forbids user namespaces to $(id -un)" "run as root, or allow them"
exec unshare --map-root-user --net -- "$self" --inside-unprivileged "$(id -u)" "$(id -g)" "$@"
