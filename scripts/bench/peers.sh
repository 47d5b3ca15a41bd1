#!/usr/bin/env bash
# Installs what `make bench` measures against: pgBackRest of Debian's forky, which this system's
# own release does not have, in a directory tree of its own below the tools' cache.
#
#   peers.sh           install what is missing
#   peers.sh --where   print the tree's directory
#   peers.sh --clean   remove it
#
# The tree is made under a temporary name and renamed when whole, like what scripts/tools.sh makes.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly SUITE=forky
# The release that the aims in docs/performance.md were set against. The suite moves on: a later
# one is taken as well, and the results name what was measured.
readonly PGBACKREST_MIN=2.60

say() { printf 'bench: %s\n' "$*" >&2; }
fail() {
  printf 'bench: error: %s\nbench: hint: %s\n' "$1" "$2" >&2
  exit 1
}

# The mirror of this machine's own package sources.
mirror() {
  local sources=(/etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list
    /etc/apt/sources.list)
  # One kind of file says `URIs: …`, the other `deb [options] …`; security updates are elsewhere.
  { cat "${sources[@]}" 2>/dev/null || true; } \
    | sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' \
    | { grep -v security || true; } | sed -n 1p
}

install_programs() {
  local wanted=()
  command -v mmdebstrap >/dev/null || wanted+=(mmdebstrap)
  command -v zstd >/dev/null || wanted+=(zstd)
  if [ ${#wanted[@]} = 0 ]; then return 0; fi
  say "installing system packages: ${wanted[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${wanted[@]}" \
    >"$LOG" 2>&1 || { tail -n 15 "$LOG" >&2; fail "cannot install ${wanted[*]}" "apt-get update"; }
}

# Prints the tree's version of pgBackRest, or nothing.
version_in() { # TREE
  chroot "$1" /usr/bin/pgbackrest version 2>/dev/null | sed -n 's/^pgBackRest //p'
}

is_new_enough() { # VERSION
  [ -n "$1" ] && printf '%s\n%s\n' "$PGBACKREST_MIN" "$1" | sort --check=quiet --version-sort
}

make_tree() {
  local source draft version
  source=$(mirror)
  [ -n "$source" ] || fail "the package sources of this machine name no mirror" "see /etc/apt"
  say "installing pgBackRest of $SUITE (about two minutes, once)"
  draft=$(mktemp -d "$CACHE/.peers.XXXXXX")
  # The suite's release file is often out of date on mirrors; its signature is checked all the same.
  if ! mmdebstrap --variant=apt --mode=root --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=pgbackrest,ca-certificates "$SUITE" "$draft" "$source" >"$LOG" 2>&1; then
    tail -n 25 "$LOG" >&2
    rm -rf --one-file-system "$draft"
    fail "the packages of $SUITE could not be installed" "the lines above are what mmdebstrap said"
  fi
  version=$(version_in "$draft")
  if ! is_new_enough "$version"; then
    rm -rf --one-file-system "$draft"
    fail "$SUITE has pgBackRest '$version', expected at least $PGBACKREST_MIN" "try a later suite"
  fi
  chmod 755 "$draft"
  if [ -e "$TREE" ]; then rm -rf --one-file-system "$TREE"; fi
  mv -T "$draft" "$TREE"
}

main() {
  CACHE=$(scripts/tools.sh --where)
  TREE=$CACHE/peers-$SUITE
  case ${1:-} in
    --where) echo "$TREE"; exit ;;
    --clean) rm -rf --one-file-system "$TREE" "$CACHE"/.peers.*; exit ;;
    '') ;;
    *) fail "unknown argument '$1'" "see the head of $0" ;;
  esac
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.peers.lock"
  flock 9
  LOG=$(mktemp)
  trap 'rm -f "$LOG"' EXIT
  rm -rf --one-file-system "$CACHE"/.peers.??????
  install_programs
  is_new_enough "$(version_in "$TREE")" || make_tree
}

main "$@"
