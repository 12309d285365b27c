#!/usr/bin/env bash
# ntfy-binary.sh [new|old]: print the path of a real ntfy (server and command in one). `new`, the default, replaces messages in place
# (2.16 and later): the one on PATH if it does, else that of Debian 14 (forky). `old` keeps every message: that of Debian 13 (trixie).
# Both run on Debian 12's libc. They are fetched by debian.sh and kept under .cache/. Exit 77 where one cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
which=${1:-new}
case $which in
    new) suite=forky ;;
    old) suite=trixie ;;
    *) echo "ntfy-binary.sh: new or old, not $which" >&2; exit 2 ;;
esac
cache=$PWD/.cache/ntfy/$suite
# Its version, from the end of the help: the option --version is newer than 2.11.
version() { "$1" --help 2>/dev/null | sed -n 's/^ntfy \([0-9][0-9.]*\).*/\1/p' | tail -1; }
replaces() { local version; version=$(version "$1"); [ -n "$version" ] && [ "$(printf '%s\n' 2.16 "$version" | sort -V | head -1)" = 2.16 ]; }

if [ "$which" = new ] && found=$(command -v ntfy) && replaces "$found"; then echo "$found"; exit 0; fi
if [ ! -x "$cache/ntfy" ]; then
    mkdir -p "$cache"
    exec 9>"$cache.lock"; flock 9 # the tests of several processes ask at once
    if [ ! -x "$cache/ntfy" ]; then
        work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
        .ci/debian.sh "$suite" "$work/x" ntfy
        install -m 755 "$work/x/usr/bin/ntfy" "$cache/ntfy.new" && mv "$cache/ntfy.new" "$cache/ntfy" # whole or not at all
    fi
fi
[ -n "$(version "$cache/ntfy")" ] || { echo "ntfy-binary.sh: $cache/ntfy does not run: $("$cache/ntfy" --help 2>&1 | tail -1)" >&2; exit 1; }
if replaces "$cache/ntfy"; then is=new; else is=old; fi
[ "$is" = "$which" ] || { echo "ntfy-binary.sh: $suite has ntfy $(version "$cache/ntfy"), which is not the $which one" >&2; exit 1; }
echo "$cache/ntfy"
