# shellcheck shell=bash
# Builds the control plane of Kubernetes for the tests. Sourced by tools.sh, whose functions and
# variables (CACHE, WORK) it uses. The result, in the cache:
#
#   kubernetes/bin/{kube-apiserver,kube-controller-manager,kubectl,etcd}
#
# Debian carries the servers as source only. The source, the compiler, and the two programs that
# are there ready to run come from the machine's own package sources, with a configuration of apt
# that lives in $WORK: the system's sources stay as they are, nothing is installed into the system
# (the package of etcd would start a server), and root is not needed.

readonly KUBERNETES_SERIES=1.20
readonly KUBERNETES_VERSION=v1.20.2
readonly KUBERNETES_PACKAGES="etcd-server kubernetes-client golang-1.19-go golang-1.19-src
  golang-github-modern-go-reflect2-dev"
# Raise it when what is built changes.
readonly KUBERNETES_STAMP="$KUBERNETES_VERSION recipe 1"
readonly KUBERNETES_HINT="Debian 12 has them all; its source package is 'kubernetes'"

# Calls an apt program with sources and lists of its own, below $APT.
apart() { # PROGRAM ARGUMENT…
  local program=$1
  shift
  "$program" -q -o Dir::Etc::sourcelist="$APT/sources.list" \
    -o Dir::Etc::sourceparts="$APT/parts" -o Dir::State::lists="$APT/lists" \
    -o Dir::Cache="$APT/cache" -o APT::Sandbox::User=root "$@"
}

# The machine's package sources, with source packages as well.
copy_package_sources() {
  local file
  mkdir -p "$APT"/{parts,lists/partial,cache/archives/partial}
  : >"$APT/sources.list"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    if [ -r "$file" ]; then
      sed -n 's/^deb\([ \t]\)/deb\1/p; s/^deb\([ \t]\)/deb-src\1/p' "$file" >>"$APT/sources.list"
    fi
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    if [ -r "$file" ]; then
      sed 's/^Types:.*/Types: deb deb-src/' "$file" >"$APT/parts/${file##*/}"
    fi
  done
}

# Leaves the source in $KUBERNETES/source, the packages unpacked in $KUBERNETES/root.
fetch_kubernetes() {
  local version package sources
  copy_package_sources
  # A package source of somebody else may fail without harm: what counts is what is found.
  apart apt-get update >"$KUBERNETES/update.log" 2>&1 || tail -n 5 "$KUBERNETES/update.log" >&2
  version=$(apart apt-cache showsrc kubernetes 2>/dev/null \
    | sed -n "s/^Version: \($KUBERNETES_SERIES\..*\)/\1/p" | sort -V | tail -n 1)
  [ -n "$version" ] || fail \
    "the package sources have no source package 'kubernetes' $KUBERNETES_SERIES" "$KUBERNETES_HINT"
  for package in $KUBERNETES_PACKAGES; do
    apart apt-cache show "$package" >/dev/null 2>&1 \
      || fail "the package sources have no package '$package'" "$KUBERNETES_HINT"
  done
  cd "$KUBERNETES"
  quietly "apt-get source" apart apt-get source "kubernetes=$version"
  sources=(kubernetes-*/)
  mv -T "${sources[0]%/}" source
  # shellcheck disable=SC2086 # a list of words
  quietly "apt-get download" apart apt-get download $KUBERNETES_PACKAGES
  for package in ./*.deb; do quietly "unpack $package" dpkg-deb -x "$package" root; done
  rm -f ./*.deb ./*.tar.* ./*.dsc
}

# The descriptions that the API server serves are generated, and not in the source package.
generate_openapi() {
  local generator="$KUBERNETES/openapi-gen" described
  quietly "build openapi-gen" go build -o "$generator" \
    k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  described=$(
    for root in vendor/k8s.io/*/ pkg/ cmd/; do
      grep -rl --include='*.go' '+k8s:openapi-gen=true' "$root" || true
    done | xargs -n 1 dirname | sort -u | grep -vE 'sample|/test' \
      | sed 's,^,k8s.io/kubernetes/,' | paste -sd,
  )
  quietly "openapi-gen" "$generator" \
    --go-header-file hack/boilerplate/boilerplate.generatego.txt -O zz_generated.openapi \
    -p k8s.io/kubernetes/pkg/generated/openapi -i "$described" \
    -r "$KUBERNETES/violations.txt" --output-base "$GOPATH/src"
}

build_kubernetes() {
  local flags="-s -w" package reflect=vendor/github.com/modern-go/reflect2
  export GOROOT="$KUBERNETES/root/usr/lib/go-1.19" GOPATH="$KUBERNETES/gopath"
  export GOCACHE="$KUBERNETES/gocache" GOTMPDIR="$KUBERNETES/tmp" PATH="$GOROOT/bin:$PATH"
  export GO111MODULE=off CGO_ENABLED=0 GOFLAGS="-p=$(nproc)" GOENV=off
  mkdir -p "$GOPATH/src/k8s.io" "$GOTMPDIR" "$KUBERNETES/out/bin"
  ln -sfn "$KUBERNETES/source" "$GOPATH/src/k8s.io/kubernetes"
  cd "$GOPATH/src/k8s.io/kubernetes"
  # Version 1.0.1, compiled by Go 1.18 or later, ends the API server at the first custom resource.
  rm -f "$reflect"/*.go "$reflect"/*.s
  cp -L "$KUBERNETES"/root/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$reflect"
  generate_openapi
  for package in component-base/version client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/k8s.io/$package
    flags+=" -X $package.gitVersion=$KUBERNETES_VERSION"
    flags+=" -X $package.gitMajor=${KUBERNETES_SERIES%.*}"
    flags+=" -X $package.gitMinor=${KUBERNETES_SERIES#*.}"
  done
  quietly "build Kubernetes" go build -trimpath -ldflags "$flags" -o "$KUBERNETES/out/bin/" \
    k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager
}

install_kubernetes() {
  local final="$CACHE/kubernetes"
  if is_complete "$final" "$KUBERNETES_STAMP"; then return 0; fi
  say "building Kubernetes $KUBERNETES_VERSION from source (3 to 10 minutes, once)"
  KUBERNETES="$WORK/kubernetes" APT="$WORK/kubernetes/apt"
  mkdir -p "$KUBERNETES"
  (fetch_kubernetes)
  # In a shell of its own, which is told to give way: this is long, and nobody waits for it alone.
  (renice -n 10 "$BASHPID" >/dev/null && build_kubernetes)
  mv "$KUBERNETES"/root/usr/bin/{etcd,kubectl} "$KUBERNETES/out/bin/"
  quietly "kube-apiserver" "$KUBERNETES/out/bin/kube-apiserver" --version
  quietly "kubectl" "$KUBERNETES/out/bin/kubectl" version --client
  publish "$KUBERNETES/out" "$final" "$KUBERNETES_STAMP"
  rm -rf "$KUBERNETES"
}
