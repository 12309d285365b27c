#!/usr/bin/env bash
# image-check.sh [image] [servers] [compose] [swarm] : builds the Dockerfile as it is, runs it, and asserts what the documents promise.
# Without arguments all four parts. Ends with "N passed, N failed, N skipped". Exit 1 on a failure; 0 with a loud SKIP where
# no engine can run (REQUIRE_DOCKER=1 makes every SKIP a failure). Published ports are free ones of 127.0.0.1.
set -uo pipefail
HERE=$(cd "$(dirname "$0")" && pwd); cd "$HERE/../.."
PARTS=${*:-image servers compose swarm}
ID=check$$; IMG=claude-proxy-$ID; NET=$ID; SIM=$ID-sim; SECRET=sk-$ID-$RANDOM$RANDOM
PASS=0 FAIL=0 SKIP=0; T0=$SECONDS; W=$(mktemp -d)
ok()   { PASS=$((PASS+1)); printf 'ok   %3ds  %s\n' $((SECONDS-T0)) "$*"; }
bad()  { FAIL=$((FAIL+1)); printf 'FAIL %3ds  %s\n' $((SECONDS-T0)) "$*"; }
skip() { [ "${REQUIRE_DOCKER:-0}" = 0 ] || { bad "skipped, which REQUIRE_DOCKER=1 forbids: $*"; return; }
         SKIP=$((SKIP+1)); printf 'SKIP %3ds  %s\n' $((SECONDS-T0)) "$*"; }
t()    { local d=$1; shift; if "$@" >"$W/out" 2>&1; then ok "$d"; else bad "$d"; tail -6 "$W/out" | sed 's/^/       | /'; fi; }
eq()   { [ "$1" = "$2" ] || { echo "got '$1', wanted '$2'"; return 1; }; }
until_ok() { local n=$1; shift; for _ in $(seq $((n*10))); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; "$@"; }
now()  { date +%s%N; }
ms()   { echo $((($(now)-$1)/1000000)); }
finish() {
    docker ps -aq --filter "name=$ID" | xargs -r docker rm -fv >/dev/null 2>&1
    [ -z "${COMPOSE:-}" ] || "${COMPOSE[@]}" --profile '*' down -v --remove-orphans >/dev/null 2>&1
    docker network rm "$NET" >/dev/null 2>&1; docker image ls -q "$IMG*" | sort -u | xargs -r docker rmi -f >/dev/null 2>&1
    [ -z "$OURS" ] || "$HERE/engine.sh" stop
    rm -rf "$W"
    printf '%d passed, %d failed, %d skipped\n' $PASS $FAIL $SKIP
    [ $FAIL = 0 ]; exit $?
}

timeout 5 docker info >/dev/null 2>&1 && OURS= || OURS=1          # an engine that was here is left running
"$HERE/engine.sh" start; rc=$?
if [ $rc != 0 ]; then
    printf '\n*** SKIPPED: the image and compose checks did NOT run: no container engine can run on this machine ***\n\n'
    [ "${REQUIRE_DOCKER:-0}" = 0 ] || FAIL=1
    printf '0 passed, %d failed, 1 skipped\n' $FAIL; exit $FAIL
fi
trap finish EXIT
trap 'exit 130' INT TERM
ok "engine $(docker version -f '{{.Server.Version}}')"
for v in $(sed -nE 's/^FROM +(--platform=[^ ]+ +)?python:([0-9.]+)-slim.*/\2/p' Dockerfile Dockerfile.uv | sort -u); do
    t "base image python:$v-slim" "$HERE/base-image.sh" "$v"
done

# --- helpers for running containers of the image
run()    { local n=$1; shift; docker run -d --name "$ID-$n" --network "$NET" -p 127.0.0.1::3000 -e BASE_URL=http://$SIM:4000/api/anthropic "$@" >/dev/null; }
port()   { docker port "$ID-$1" 3000 | head -1 | sed 's/.*://'; }
url()    { echo "http://127.0.0.1:$(port "$1")"; }
alive()  { curl -sf --max-time 2 "$(url "$1")/health"; }
health() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$ID-$1")" = healthy ] || { docker inspect -f '{{json .State.Health}}' "$ID-$1"; return 1; }; }
code()   { docker inspect -f '{{.State.ExitCode}}' "$ID-$1"; }
gone()   { docker rm -fv "$ID-$1" >/dev/null 2>&1; }
flows()  { python3 "$HERE/stream.py" "$@"; }
layers() { docker image inspect -f '{{range .RootFS.Layers}}{{println .}}{{end}}' "$1" | grep .; }

# --- the build, with a secret lying about that must not get in
cp -a . "$W/tree" 2>/dev/null; rm -rf "$W/tree/.venv" "$W/tree/.git" "$W/tree/.cache"
printf 'UPSTREAM_API_KEY=%s\n' "$SECRET" >"$W/tree/.env"; printf '%s' "$SECRET" >"$W/tree/src/../key.txt"
t "docker build of the Dockerfile as it is" docker build -t "$IMG" "$W/tree"
docker image inspect "$IMG" >/dev/null 2>&1 || exit
docker network create "$NET" >/dev/null
docker run -d --name "$SIM" --network "$NET" --no-healthcheck "$IMG" claude-proxy simulate --host 0.0.0.0 >/dev/null
for part in $PARTS; do . "$HERE/check-$part.sh"; done
exit
