# Part of image-check.sh: the image itself.
hard=(--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --memory 256m --pids-limit 100)

# --- starts, and is healthy soon
t0=$(now); t "runs read-only, without capabilities, at 256 MB" run a --restart unless-stopped "${hard[@]}" "$IMG"
t "HEALTHCHECK turns healthy" until_ok 20 health a; healthy=$(ms "$t0")
t "not root" sh -c '[ "$(docker exec '"$ID-a"' id -u)" = 1001 ]'
t "process 1 is the proxy (exec form)" sh -c "docker exec $ID-a cat /proc/1/cmdline | tr '\0' ' ' | grep -E '^[^ ]*python[^ ]* [^ ]*claude-proxy serve'"
t "streams" flows "$(url a)"
base=$(docker image inspect -f '{{.Size}}' python:3.13-slim); size=$((($(docker image inspect -f '{{.Size}}' "$IMG")-base+500000)/1000000))
memory=$(docker stats --no-stream --format '{{.MemUsage}}' "$ID-a" | sed 's/ .*//')
printf '       figures: %s MB above the base image, %s idle, healthy after %s ms\n' "$size" "$memory" "$healthy"
t "at most 70 MB above the base image ($size)" test "$size" -le 70
t "healthy within 15 s ($healthy ms)" test "$healthy" -le 15000
t "a start finds its bytecode in the image" docker exec "$ID-a" python -c '
import os, sys, proxy
late = [n for n, m in sys.modules.items() if getattr(m, "__cached__", None) and not os.path.exists(m.__cached__) and n != "proxy"]
sys.exit(f"compiled at each start: {late}" if len(late) > 20 else 0)'

# --- dies and comes back
kill -9 "$(docker inspect -f '{{.State.Pid}}' "$ID-a")"
t "comes back after kill -9" until_ok 20 sh -c "[ \$(docker inspect -f '{{.RestartCount}}' $ID-a) = 1 ] && curl -sf --max-time 2 http://\$(docker port $ID-a 3000 | head -1)/health"
t0=$(now); docker stop -t 15 "$ID-a" >/dev/null; took=$(ms "$t0")
t "docker stop, idle: exit 0" eq "$(code a)" 0
t "docker stop, idle: within 5 s ($took ms)" test "$took" -lt 5000
t "docker start brings it back" sh -c "docker start $ID-a"
t "... and it streams" sh -c "$(declare -f until_ok alive url port flows); ID=$ID HERE=$HERE; until_ok 20 alive a && flows \$(url a)"
t "docker rm -f" docker rm -fv "$ID-a"

# --- any user id with group 0; data survive a new container
t "an arbitrary user id with group 0 may write its data" docker run --rm -u 123456:0 "${hard[@]}" "$IMG" sh -c 'touch "$DATA_DIR/x" && claude-proxy --version'
docker volume create "$ID-data" >/dev/null
t "data stay in the volume" sh -c "docker run --rm -v $ID-data:/data $IMG touch /data/kept && docker run --rm -v $ID-data:/data $IMG test -f /data/kept"
docker volume rm "$ID-data" >/dev/null

# --- stop with a stream in flight
run b "$IMG"; until_ok 20 alive b >/dev/null
rm -f "$W/flow"; flows "$(url b)" 'slow;deltas=20;pace=0.2' >"$W/flow" & flow=$!
until_ok 10 grep -q first "$W/flow"
t0=$(now); docker stop -t 15 "$ID-b" >/dev/null; took=$(ms "$t0"); wait $flow; rc=$?
t "stop with a stream in flight: it is finished ($(tail -1 "$W/flow"))" eq $rc 0
t "... the stop waited for it ($took ms) and exits 0" sh -c "[ $took -gt 500 ] && [ $(code b) = 0 ]"
gone b

# --- a stream longer than the grace period
run c -e GRACEFUL_TIMEOUT=1 "$IMG"; until_ok 20 alive c >/dev/null
rm -f "$W/flow"; flows "$(url c)" 'slow;deltas=100;pace=0.2' >"$W/flow" & flow=$!
until_ok 10 grep -q first "$W/flow"
t0=$(now); docker stop -t 15 "$ID-c" >/dev/null; took=$(ms "$t0"); wait $flow; rc=$?
t "a stop longer than GRACEFUL_TIMEOUT cuts the stream, visibly ($(tail -1 "$W/flow"))" eq $rc 3
t "... after that time ($took ms), exit 0" sh -c "[ $took -gt 900 ] && [ $took -lt 6000 ] && [ $(code c) = 0 ]"
gone c

# --- bad settings: one sentence, no traceback, not zero
t "a bad setting ends the start with one sentence" sh -c "out=\$(docker run --rm -e BASE_URL=nonsense $IMG 2>&1); rc=\$?; echo \"\$rc \$out\"; [ \$rc != 0 ] && echo \"\$out\" | grep -q BASE_URL && ! echo \"\$out\" | grep -q Traceback"

# --- secrets
mkdir "$W/save"; docker save "$IMG" | tar -x -C "$W/save"
in_layers() { find "$W/save" -type f -exec sh -c 'tar -xOf "$1" 2>/dev/null || cat "$1"' _ {} \; | grep -qaF "$1"; }
t "the layers can be searched (our own code is found)" in_layers 'def create_app('
t "... and no secret of the build's folder is in one" eval '! in_layers "$SECRET"'
rm -rf "$W/save"; printf '%s' "$SECRET" >"$W/key"; chmod 644 "$W/key"
run d -e UPSTREAM_API_KEY_FILE=/run/secrets/key -v "$W/key:/run/secrets/key:ro" -e PROXY_API_KEY=check "$IMG"; until_ok 20 alive d >/dev/null
t "with UPSTREAM_API_KEY_FILE it streams" flows "$(url d)"
t "... and the key is neither in docker inspect nor in the log" sh -c "! { docker inspect $ID-d; docker logs $ID-d 2>&1; } | grep -q $SECRET"
gone d

# --- layer cache
for change in proxy.py src/claude_proxy/app.py; do
    echo "# $RANDOM" >>"$W/tree/$change"; t0=$(now)
    docker build -q -t "$IMG-b" "$W/tree" >/dev/null 2>"$W/out"; took=$(ms "$t0")
    all=$(layers "$IMG" | wc -l); same=$(comm -12 <(layers "$IMG" | sort) <(layers "$IMG-b" | sort) | wc -l)
    case $change in proxy.py) new=1;; *) new=3;; esac
    t "a change of $change remakes $new of $all layers at most ($((all-same)) in $took ms)" test "$((all-same))" -le $new
done
t "Dockerfile.uv builds" docker build -q -f Dockerfile.uv -t "$IMG-uv" .
if docker image inspect "$IMG-uv" >/dev/null 2>&1; then
    run uv "${hard[@]}" "$IMG-uv"; t "... is healthy" until_ok 20 health uv; t "... and streams" flows "$(url uv)"
    printf '       figures: Dockerfile.uv: %s MB above the base image\n' $((($(docker image inspect -f '{{.Size}}' "$IMG-uv")-base+500000)/1000000))
    gone uv
fi
