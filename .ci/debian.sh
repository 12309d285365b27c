#!/usr/bin/env bash
# debian.sh SUITE FOLDER PACKAGE... : unpacks these packages of a Debian suite (trixie, forky) into FOLDER. It has an apt configuration
# of its own, so that the machine's sources stay as they are; apt checks the archive's signature as usual. Nothing is installed and no
# dependency is taken along: it is for programs that need no newer libc than Debian 12's. Exit 77 with the reason where they cannot be had.
set -euo pipefail
suite=$1 folder=$2; shift 2
skip() { printf 'debian.sh: %s: %s\n' "$suite" "$*" >&2; exit 77; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no apt-get to fetch $*"

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,prefs,lists/partial,cache/archives/partial}
# The machine's own mirror, with that suite.
if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    awk 'BEGIN{RS="";ORS="\n\n"} NR==1' /etc/apt/sources.list.d/debian.sources | sed -E "s/^Suites:.*/Suites: $suite/" > "$work/sources/$suite.sources"
else
    { grep -m1 -E '^deb .*debian' /etc/apt/sources.list 2>/dev/null || echo "deb http://deb.debian.org/debian $suite main"; } |
        sed -E "s/ (bookworm|bullseye|stable|sid|testing) / $suite /" > "$work/sources/$suite.list"
fi
# A release in preparation has an end date a week ahead, which a mirror that lags behind exceeds. The signature counts all the same.
options=(-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" -o Dir::Etc::preferencesparts="$work/prefs"
         -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false
         -o APT::Sandbox::User="$(id -un)")
apt-get "${options[@]}" update >"$work/log" 2>&1 || skip "no package list: $(tail -1 "$work/log")"
(cd "$work" && apt-get "${options[@]}" download "$@" >"$work/log" 2>&1) || skip "no package: $(tail -1 "$work/log")"
mkdir -p "$folder"
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder"; done
