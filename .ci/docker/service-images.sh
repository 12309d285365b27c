#!/usr/bin/env bash
# service-images.sh NAME... : local stand-ins for the images that docker-compose.yml names, made from
# Debian's packages where no registry answers.  NAME is one of nginx caddy ntfy traefik.
# Each keeps its original's interface (user-visible env, config path, port, entrypoint), not its bytes.
# Tags come from the environment (NGINX_IMAGE=nginx:1.28-alpine ...) so that they match the compose file.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
DOCKER=${DOCKER:-docker}; CACHE=${BASE_IMAGE_CACHE:-/var/cache/standin-images}
say() { printf 'service-image: %s\n' "$*" >&2; }
REC=$(sha256sum "$0" | cut -c1-12)
base() {
    $DOCKER image inspect debian:bookworm-slim >/dev/null 2>&1 && return 0
    timeout 20 $DOCKER pull -q debian:bookworm-slim >/dev/null 2>&1 && return 0
    local t; t=$(ls -t "$CACHE"/debian-bookworm-*.tar 2>/dev/null | head -1); [ -n "$t" ] || { say "run base-image.sh first"; return 1; }
    $DOCKER import -c 'CMD ["bash"]' -c 'LABEL standin.of=debian:bookworm-slim' "$t" debian:bookworm-slim >/dev/null
}
apt='RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends'; clean='>/dev/null && rm -rf /var/lib/apt/lists/*'
mk() { [ ! -f "$2/e" ] || chmod 755 "$2/e" # tag, context dir with a Dockerfile
    local have; have=$($DOCKER image inspect -f '{{index .Config.Labels "standin.recipe"}}' "$1" 2>/dev/null || true)
    [ "$have" = "$REC" ] && { say "$1: up to date"; return 0; }
    if [ -z "$have" ] && $DOCKER image inspect "$1" >/dev/null 2>&1; then say "$1: a real image is here, kept"; return 0; fi
    timeout 20 $DOCKER pull -q "$1" >/dev/null 2>&1 && { say "$1: pulled"; return 0; }
    base; $DOCKER build -q --label standin.recipe="$REC" --label standin.of="$1" -t "$1" "$2" >/dev/null 2>"$2/err" || { cat "$2/err" >&2; return 1; }
    say "$1: stand-in made from Debian's packages"
}
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT
for n in "$@"; do d=$T/$n; mkdir -p "$d"; case $n in
nginx) cat > "$d/Dockerfile" <<D
FROM debian:bookworm-slim
$apt nginx-light $clean && rm -f /etc/nginx/sites-enabled/default && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
D
mk "${NGINX_IMAGE:-nginx:1.28-alpine}" "$d" ;;
caddy) cat > "$d/Dockerfile" <<D
FROM debian:bookworm-slim
$apt caddy $clean
EXPOSE 80 443
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
D
mk "${CADDY_IMAGE:-caddy:2}" "$d" ;;
ntfy)   # the real server (binwiederhier/ntfy), in Debian 13 only; its binary runs on Debian 12's libc
    c=/var/cache/ci-docker-apt; a=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$c/sources -o Dir::Etc::preferencesparts=$c/prefs -o Dir::State::lists=$c/lists -o Dir::Cache=$c/cache -o APT::Sandbox::User=root)
    (cd "$d" && apt-get -qq "${a[@]}" download ntfy && dpkg-deb -x ntfy_*.deb x && mv x/usr/bin/ntfy . && rm -rf x ./*.deb)
    cat > "$d/Dockerfile" <<D
FROM debian:bookworm-slim
COPY ntfy /usr/bin/ntfy
EXPOSE 80
ENTRYPOINT ["ntfy"]
D
mk "${NTFY_IMAGE:-binwiederhier/ntfy}" "$d" ;;
traefik)   # the real program, built by traefik.sh
    cp "$("$HERE/traefik.sh")" "$d/traefik"
    cat > "$d/Dockerfile" <<D
FROM debian:bookworm-slim
COPY traefik /usr/local/bin/traefik
EXPOSE 80
ENTRYPOINT ["traefik"]
D
mk "${TRAEFIK_IMAGE:-traefik:v3.6}" "$d" ;;
*) say "no stand-in for $n"; exit 2 ;;
esac; done
