#!/usr/bin/env bash
# Builds every test with the network, then runs them all without it.
#
#   test.sh PROFILE [ARGUMENT…]
#
# PROFILE and the arguments are cargo-nextest's. `-p CRATE` chooses what runs, not what is built:
# cargo would build a crate chosen by `-p` with other features, and so everything once more.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=$1
shift
arguments=() crates=''
while [ $# -gt 0 ]; do
  case $1 in
    -p | --package) crates+="${crates:+ + }package(=${2:?a crate is missing after $1})"; shift ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
if [ -n "$crates" ]; then
  case " ${arguments[*]-} " in
    *' -E '*)
      echo "test: error: -p and -E would be joined by 'or'" >&2
      echo "test: hint: write it as one filter: -E 'package(=store) & test(name)'" >&2
      exit 2
      ;;
  esac
  arguments+=(-E "$crates")
fi

# Programs first: tests of other crates start them too.
cargo build --workspace --locked --bins
cargo nextest run --workspace --locked --no-run --cargo-quiet

if [ ${#arguments[@]} = 0 ]; then
  # The examples in the documentation; quick, and first, so that the summary comes last.
  scripts/in-namespace.sh cargo test --workspace --locked --offline --doc --quiet
fi
exec scripts/in-namespace.sh \
  cargo nextest run --workspace --locked --offline --cargo-quiet --profile "$profile" \
  ${arguments[@]+"${arguments[@]}"}
