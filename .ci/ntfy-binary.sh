#!/usr/bin/env bash
# ntfy-binary.sh: print the path of a real ntfy (server and command in one). One on PATH is taken; else Debian 13's package is
# fetched (trixie.sh) and kept under .cache/. Its binary runs on Debian 12's libc too. Exit 77 where neither can be had.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache/ntfy

if command -v ntfy; then exit 0; fi
if [ -x "$cache/ntfy" ]; then echo "$cache/ntfy"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
.ci/trixie.sh "$work/x" ntfy
mkdir -p "$cache"
install -m 755 "$work/x/usr/bin/ntfy" "$cache/ntfy.new" && mv "$cache/ntfy.new" "$cache/ntfy" # whole or not at all
echo "$cache/ntfy"
