# Part of image-check.sh: docker-compose.yml, alone and with each profile.
if docker container inspect claude-proxy >/dev/null 2>&1; then skip "compose: a container named claude-proxy is here, and is not ours"; return; fi
if ! docker compose version >/dev/null 2>&1; then skip "compose: docker compose is not on this machine"; return; fi
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
P=$(free) PN=$(free) PT=$(free) PY=$(free)
export IMAGE=$IMG-compose PUBLISH=127.0.0.1:$P PUBLISH_NGINX=127.0.0.1:$PN PUBLISH_TRAEFIK=127.0.0.1:$PT PUBLISH_NTFY=127.0.0.1:$PY
COMPOSE=(docker compose -p "$ID" -f docker-compose.yml -f "$HERE/simulator.yml")
# One request of a session of its own, and whom the line of just that request names as the client.
asks()      { curl -sk -o /dev/null --max-time 20 -H 'content-type: application/json' -H 'x-api-key: check' -H "x-claude-code-session-id: $1" \
              -d '{"model":"claude-check","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}' "$2/api/anthropic/v1/messages"; }
client_of() { "${COMPOSE[@]}" logs --no-log-prefix claude-proxy | grep -F "\"session\":\"$1\"" | grep -o '"client":"[^"]*"' | tail -1; }
not_the_fronts() {
    local found; found=$(client_of "$1")
    case $found in ''|'"client":""'|"\"client\":\"${FRONT_NET:-10.203.113}.1"[01]'"') echo "the log names '$found'"; return 1;; esac
}

t "compose: the file is valid, all profiles" docker compose --profile '*' config -q
t "service images" "$HERE/service-images.sh" nginx traefik ntfy
t "compose up: healthy" "${COMPOSE[@]}" up -d --build --wait --wait-timeout 90
t "... streams" flows "http://127.0.0.1:$P"
t "... publishes on 127.0.0.1 alone" sh -c "docker port claude-proxy | grep . && ! docker port claude-proxy | grep -v 127.0.0.1"
t "... keeps its data in a volume" sh -c "docker inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}}{{println}}{{end}}' claude-proxy | grep '^volume /data'"
LOGIN=$(mktemp)
t "... a browser needs a login" sh -c "curl -s -o /dev/null -w '%{http_code}' -H 'accept: text/html' http://127.0.0.1:$P/ | grep -x 401"
t "... the link in its log is one" sh -c "curl -s -o /dev/null -w '%{http_code}' -c '$LOGIN' -d \"secret=\$(docker logs claude-proxy 2>&1 | grep -o '#code=[a-z0-9]*' | tail -1)\" http://127.0.0.1:$P/login | grep -x 204"
t "... and so is claude-proxy login" sh -c "curl -s -o /dev/null -w '%{http_code}' -c '$LOGIN' --data-urlencode \"secret=\$(docker exec claude-proxy claude-proxy login)\" http://127.0.0.1:$P/login | grep -x 204"
t "... which opens the API" sh -c "curl -s -b '$LOGIN' http://127.0.0.1:$P/api/v1/logins | grep -c current"
for profile in nginx:$PN traefik:$PT; do
    name=${profile%:*}; to=https://localhost:${profile#*:}
    t "compose --profile $name: healthy" "${COMPOSE[@]}" --profile "$name" up -d --wait --wait-timeout 90
    t "... streams over TLS" flows "$to"
    t "... and under a stripped prefix" flows "$to/claude"
    asks "check-$name" "$to"
    t "... the client's address is in the log, not the front's" until_ok 5 not_the_fronts "check-$name"
    t "... HTTP/2 towards the client" sh -c "curl -sk -o /dev/null -w '%{http_version}' $to/health | grep -x 2"
done
LABELS=("${COMPOSE[@]}" -f deploy/traefik/labels.yml --profile traefik)
t "compose with Traefik's Docker labels: healthy" "${LABELS[@]}" up -d --wait --wait-timeout 90
t "... streams over TLS" flows "https://localhost:$PT"
t "... and under a stripped prefix" flows "https://localhost:$PT/claude"
export CHECK_BASE_URL=http://nowhere.invalid/api/anthropic NTFY_SERVER=http://ntfy NTFY_TOPIC=check
t "compose --profile ntfy: healthy" "${COMPOSE[@]}" --profile ntfy up -d --wait --wait-timeout 90
# A notice is held for 30 s, and needs three failures: one may have been a hiccup.
for _ in 1 2 3; do flows "http://127.0.0.1:$P" >/dev/null; done
t "... an upstream out of reach becomes a notice" until_ok 60 sh -c "curl -s 'http://127.0.0.1:$PY/check/json?poll=1' | grep -q '\"message\"'"
t "compose down -v" "${COMPOSE[@]}" --profile '*' down -v
unset CHECK_BASE_URL NTFY_SERVER NTFY_TOPIC IMAGE PUBLISH PUBLISH_NGINX PUBLISH_TRAEFIK PUBLISH_NTFY
