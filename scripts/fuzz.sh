#!/usr/bin/env bash
# Runs every fuzz target for a while, or the ones named.
#
#   fuzz.sh [TARGET…]     FUZZ_SECONDS (60) for each
#
# Needs no nightly toolchain: sanitizers come with the stable one, RUSTC_BOOTSTRAP lets it use them.
# Inputs that were found are kept in fuzz/corpus (not under version control), those that break
# something in fuzz/artifacts. Add the latter to fuzz/testdata/TARGET once mended: `make test` reads
# every seed.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  printf 'fuzz: error: %s\nfuzz: hint: %s\n' "$1" "$2" >&2
  exit 1
}

[ -d fuzz/fuzz_targets ] || fail "there is no 'fuzz/fuzz_targets' here" "run it in the checkout"
if ! cargo fuzz --version >/dev/null 2>&1; then
  cargo install cargo-fuzz --locked || fail "cargo-fuzz does not install" "cargo install cargo-fuzz --locked"
fi
if [ $# = 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
# A decoder that takes a second or 512 MiB for one input is broken, too.
readonly LIMITS=(-timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=512 -max_len=32768)
export RUSTC_BOOTSTRAP=1
failed=()
for target in "$@"; do
  printf 'fuzz: %s\n' "$target" >&2
  mkdir -p "fuzz/corpus/$target"
  cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/testdata/$target" -- \
    -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1 -verbosity=0 "${LIMITS[@]}" \
    || failed+=("$target")
done
[ ${#failed[@]} = 0 ] || fail "broken: ${failed[*]}" "the inputs are in fuzz/artifacts"
