#!/usr/bin/env bash
# traefik.sh : prints the path of a Traefik binary, building it first if need be (no package registry carries it).
# Through the Go module proxy, with the Go that is on the machine or Debian 13's (go-binary.sh): about 6 minutes of 2 cores
# once, 178 MB kept in the user's cache. A `traefik` on PATH is used as it is. Exit 77 with the reason where it can neither be found nor built.
set -euo pipefail
VERSION=${TRAEFIK_VERSION:-3.6.12}
KEEP=${XDG_CACHE_HOME:-$HOME/.cache}/claude-proxy/traefik-$VERSION
say() { printf 'traefik: %s\n' "$*" >&2; }

if [ -x "$KEEP" ]; then echo "$KEEP"; exit; fi
if command -v traefik; then exit; fi
go=$("$(dirname "$0")/../go-binary.sh") || { say "neither traefik nor go is on this machine, and none can be had"; exit 77; }
mkdir -p "$(dirname "$KEEP")"
exec 9>"$KEEP.lock"; flock 9
if [ -x "$KEEP" ]; then echo "$KEEP"; exit; fi

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
say "building $VERSION (once; kept in $KEEP)"
export GOTOOLCHAIN=auto # it asks for a newer Go than Debian's; that one comes through the module proxy as well
source=$(cd "$work" && "$go" mod download -json "github.com/traefik/traefik/v3@v$VERSION" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') || true
[ -d "$source" ] || { say "the module github.com/traefik/traefik/v3@v$VERSION cannot be had"; exit 77; }
cp -r "$source" "$work/src"; chmod -R u+w "$work/src"; cd "$work/src"
mkdir -p webui/static; echo '<!doctype html>' >webui/static/index.html      # its dashboard is not in the module
export CGO_ENABLED=0 GOFLAGS='-buildvcs=false -p=2'
nice -n 10 "$go" build -trimpath -ldflags "-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=$VERSION" -o "$work/traefik" ./cmd/traefik \
    >"$work/log" 2>&1 || { grep -v 'go: downloading' "$work/log" | tail -5 >&2; exit 1; }
mv "$work/traefik" "$KEEP"
echo "$KEEP"
