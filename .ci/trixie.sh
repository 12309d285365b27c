#!/usr/bin/env bash
# trixie.sh FOLDER PACKAGE... : unpacks these packages of Debian 13 into FOLDER, with an apt configuration of its own so that the
# machine's sources stay as they are. Nothing is installed and no dependency is taken along: it is for programs that need no
# newer libc than Debian 12's. Exit 77 with the reason where they cannot be had.
set -euo pipefail
folder=$1; shift
skip() { printf 'trixie: %s\n' "$*" >&2; exit 77; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no apt-get to fetch $*"

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,prefs,lists/partial,cache/archives/partial}
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
(cd "$work" && apt-get "${options[@]}" download "$@" >"$work/log" 2>&1) || skip "no package: $(tail -1 "$work/log")"
mkdir -p "$folder"
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder"; done
