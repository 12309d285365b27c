#!/usr/bin/env bash
# go-binary.sh: print the path of a Go, 1.21 or newer: where a module asks for a newer one, such a Go fetches that itself, through the
# module proxy. One on PATH is taken; else Debian 13's is fetched (debian.sh) and kept in the user's cache. Exit 77 where none can be had.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
KEEP=${XDG_CACHE_HOME:-$HOME/.cache}/claude-proxy/go-1.24

if [ -n "$(go env GOTOOLCHAIN 2>/dev/null)" ]; then command -v go; exit 0; fi # before 1.21 there is no such variable
if [ ! -d "$KEEP" ]; then
    mkdir -p "$(dirname "$KEEP")"
    exec 9>"$KEEP.lock"; flock 9
    if [ ! -d "$KEEP" ]; then
        rm -rf "$KEEP.new"
        "$HERE/debian.sh" trixie "$KEEP.new" golang-1.24-go golang-1.24-src
        mv "$KEEP.new" "$KEEP" # whole or not at all
    fi
fi
echo "$KEEP/usr/lib/go-1.24/bin/go"
