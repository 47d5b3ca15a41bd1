#!/usr/bin/env bash
# Measures Rollforward beside pgBackRest and pg_basebackup: full backup, restore, `wal push`,
# `wal get`, in one run, on one cluster, with the same codec, level and number of workers.
#
#   bench.sh           run (after `make tools build`; `make bench` does all of it)
#   bench.sh --clean   remove what was installed to measure against
#
# Prints tables; stores every sample in target/bench/*.json. Settings come from the environment:
#
#   SIZE=5GB          size of the cluster (kB, MB, GB)
#   SEGMENTS=200      WAL segments pushed and fetched one by one; the load must fill that many
#   ROUNDS=3          rounds, of which the median is taken
#   WORKERS=2         workers of every tool that knows such a setting
#   COLD=1            backups read from disk instead of the page cache
#   ONLY=a,b          of rollforward, pgbackrest, pg_basebackup, pg_basebackup-zstd, limit, disk-limit
#   BUNDLE=n          pgBackRest without its bundling of small files
#   BENCH_DIR=DIR     where to work [/var/tmp/rollforward-bench]
#   KEEP=1            keep cluster, repositories and logs
#
# Needs root: every program runs as the cluster's owner, but only root can empty the page cache and
# run pgBackRest in a tree of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly SIZE=${SIZE:-5GB} SEGMENTS=${SEGMENTS:-200} ROUNDS=${ROUNDS:-3} WORKERS=${WORKERS:-2}
readonly BENCH_DIR=${BENCH_DIR:-/var/tmp/rollforward-bench}
# Cluster, repositories of all tools, one restored copy, WAL: about five times the data.
readonly ROOM_FACTOR=6

say() { printf 'bench: %s\n' "$*" >&2; }
fail() {
  printf 'bench: error: %s\nbench: hint: %s\n' "$1" "$2" >&2
  exit "${3:-1}"
}

# Prints a size such as 5GB in bytes.
bytes_of() { # SIZE
  local number=${1%%[!0-9]*} unit=${1##*[0-9]}
  [ -n "$number" ] || fail "no size: '$1'" "write SIZE=5GB" 2
  case ${unit,,} in
    gb) echo $((number << 30)) ;;
    mb) echo $((number << 20)) ;;
    kb) echo $((number << 10)) ;;
    '') echo "$number" ;;
    *) fail "expected a unit of kB, MB or GB, seen '$unit'" "write SIZE=5GB" 2 ;;
  esac
}

check_room() { # FOLDER
  local bytes need free
  bytes=$(bytes_of "$SIZE")
  need=$((bytes * ROOM_FACTOR))
  free=$(($(df --output=avail -B1 "$1" | tail -n 1)))
  [ "$free" -ge "$need" ] \
    || fail "'$1' has $((free >> 20)) MB free, a run with SIZE=$SIZE needs $((need >> 20)) MB" \
      "set SIZE to less, or BENCH_DIR to a folder on a larger disk"
}

# Whether a tool is to be measured.
wants() { # NAME
  [ -z "${ONLY:-}" ] || [[ ",$ONLY," == *",$1,"* ]]
}

# The programs that show what the machine can do at most.
build_limits() {
  if wants limit; then cargo build --release --locked --quiet -p backup --example limit; fi
  if wants disk-limit; then
    cargo build --release --locked --quiet -p restore --example disk_limit
  fi
}

# Copies the programs to where the cluster's owner may run them, and where no build replaces them.
gather_programs() { # FOLDER
  local program programs=(rollforward-shop)
  if wants rollforward; then programs+=(rollforward); fi
  if wants limit; then programs+=(examples/limit); fi
  if wants disk-limit; then programs+=(examples/disk_limit); fi
  mkdir "$1"
  for program in "${programs[@]}"; do
    [ -x "target/release/$program" ] \
      || fail "'target/release/$program' is missing" "run \`make build\` first"
    cp "target/release/$program" "$1/"
  done
}

clean_up() {
  local status=$?
  if [ -n "${KEEP:-}" ]; then
    say "kept '$WORK'"
  else
    rm -rf --one-file-system "$WORK"
    # Where the tree of pgBackRest showed the folder; empty since its name spaces are gone.
    rmdir "$(scripts/bench/peers.sh --where)$WORK" 2>/dev/null || true
    rmdir --ignore-fail-on-non-empty "$BENCH_DIR" 2>/dev/null || true
  fi
  exit "$status"
}

main() {
  case ${1:-} in
    --clean) exec scripts/bench/peers.sh --clean ;;
    '') ;;
    *) fail "unknown argument '$1'" "see the head of $0" 2 ;;
  esac
  [ "$(id -u)" = 0 ] || fail "root is needed, this is $(id -un)" "see the head of $0"
  local postgresql=/usr/lib/postgresql/15/bin
  [ -x $postgresql/postgres ] || fail "'$postgresql' is missing" "apt-get install postgresql-15"
  mkdir -p "$BENCH_DIR"
  check_room "$BENCH_DIR"
  build_limits
  scripts/bench/peers.sh
  WORK=$(mktemp -d "$BENCH_DIR/run.XXXXXX")
  chmod 755 "$BENCH_DIR" "$WORK"
  trap clean_up EXIT
  gather_programs "$WORK/bin"
  mkdir -p target/bench
  local words=(--folder "$WORK" --results "$PWD/target/bench" --programs "$WORK/bin"
    --postgresql "$postgresql" --tree "$(scripts/bench/peers.sh --where)" --size "$SIZE"
    --segments "$SEGMENTS" --rounds "$ROUNDS" --workers "$WORKERS" --bundle "${BUNDLE:-y}"
    --revision "$(git describe --always --dirty 2>/dev/null || true)")
  if [ -n "${ONLY:-}" ]; then words+=(--only "$ONLY"); fi
  if [ -n "${COLD:-}" ]; then words+=(--cold); fi
  PYTHONDONTWRITEBYTECODE=1 scripts/in-namespace.sh \
    /usr/bin/python3 scripts/bench/main.py "${words[@]}"
}

main "$@"
