#!/usr/bin/env bash
# Runs every fuzz target for a while, or the ones named.
#
#   fuzz.sh [TARGET…]     FUZZ_SECONDS (60) for each
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  printf 'fuzz: error: %s\nfuzz: hint: %s\n' "$1" "$2" >&2
  exit 1
}

[ -d fuzz/fuzz_targets ] || fail "there is no 'fuzz/fuzz_targets' here" "run it in the checkout"
cargo fuzz --version >/dev/null 2>&1 || fail "cargo-fuzz is missing" "cargo install cargo-fuzz --locked"
cargo +nightly --version >/dev/null 2>&1 \
  || fail "a nightly toolchain is missing" "rustup toolchain install nightly"

if [ $# = 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
for target in "$@"; do
  printf 'fuzz: %s\n' "$target" >&2
  cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1
done
