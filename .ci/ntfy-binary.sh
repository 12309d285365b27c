#!/usr/bin/env bash
# ntfy-binary.sh: print the path of a real ntfy (server and command in one). One on PATH is taken; else Debian 13's package is
# fetched, with an apt configuration of its own so that the machine's sources stay as they are, and kept under .cache/.
# Its binary runs on Debian 12's libc too. Exit 77 where neither can be had.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/.cache/ntfy
skip() { printf 'ntfy-binary: %s\n' "$*" >&2; exit 77; }

if command -v ntfy; then exit 0; fi
if [ -x "$cache/ntfy" ]; then echo "$cache/ntfy"; exit 0; fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no ntfy on PATH, and no apt-get to fetch one"

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$work"/{sources,prefs,lists/partial,cache/archives/partial}
# The machine's own mirror, with trixie as its suite.
if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    awk 'BEGIN{RS="";ORS="\n\n"} NR==1' /etc/apt/sources.list.d/debian.sources | sed -E 's/^Suites:.*/Suites: trixie/' > "$work/sources/trixie.sources"
else
    { grep -m1 -E '^deb .*debian' /etc/apt/sources.list 2>/dev/null || echo 'deb http://deb.debian.org/debian trixie main'; } |
        sed -E 's/ (bookworm|bullseye|stable|sid|testing) / trixie /' > "$work/sources/trixie.list"
fi
options=(-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" -o Dir::Etc::preferencesparts="$work/prefs"
         -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)")
apt-get "${options[@]}" update >"$work/log" 2>&1 || skip "no package list: $(tail -1 "$work/log")"
(cd "$work" && apt-get "${options[@]}" download ntfy >"$work/log" 2>&1) || skip "no package: $(tail -1 "$work/log")"
dpkg-deb -x "$work"/ntfy_*.deb "$work/x"
install -m 755 "$work/x/usr/bin/ntfy" "$cache/ntfy.new" && mv "$cache/ntfy.new" "$cache/ntfy" # whole or not at all
echo "$cache/ntfy"
