#!/usr/bin/env bash
# base-image.sh [3.13|3.12|3.11]...
#
# Makes local stand-ins tagged python:X.Y-slim for machines that reach Debian's
# packages and PyPI but no container registry, so that an unmodified Dockerfile
# (FROM python:X.Y-slim) builds.  Where a registry is reachable, `docker pull`
# is tried first and the stand-in is never made.
#
# A stand-in = Debian minbase (mmdebstrap, the machine's own apt sources) + the
# runtime libraries of CPython + CPython copied from pyenv into /usr/local
# (where the official image has it) + this machine's CA bundle and, where the
# machine has apt/pip settings it needs, those in /etc/apt and /etc/pip.conf.
# So nothing in the Dockerfile names a private host, a proxy or a certificate.
#
# Idempotent: an image with the right label is kept; else a cached tarball is
# imported (~5 s); else the tarball is made (~45 s on 2 cores, mostly dpkg).
set -euo pipefail
VERSIONS=("$@"); [ $# -gt 0 ] || VERSIONS=(3.13)
CACHE=${BASE_IMAGE_CACHE:-/var/cache/standin-images}
DOCKER=${DOCKER:-docker}
PYENV=${PYENV_ROOT:-$HOME/.pyenv}
SUITE=${BASE_SUITE:-bookworm}
WORK=$(mktemp -d -p "$( [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 2000000 ] 2>/dev/null && echo /dev/shm || echo /tmp)")
trap 'rm -rf "$WORK"' EXIT       # memory-backed where it can be: dpkg's fsyncs cost nothing there
RECIPE=$(sha256sum "$0" | cut -c1-12)         # a changed script remakes everything
say() { printf 'base-image: %s\n' "$*" >&2; }

debian_rootfs() {            # -> $CACHE/debian-$SUITE-$RECIPE.tar
    local out=$CACHE/debian-$SUITE-$RECIPE.tar
    [ -s "$out" ] && return 0
    command -v mmdebstrap >/dev/null || {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
    }
    local src=(/etc/apt/sources.list.d/debian.sources); [ -e "${src[0]}" ] || src=(/etc/apt/sources.list)
    local aptopts=(); local f
    for f in /etc/apt/apt.conf.d/*; do         # e.g. Check-Valid-Until on a snapshot mirror
        grep -qE '^Acquire::(Check|http|https|Retries)' "$f" && aptopts+=(--aptopt="$f")
    done
    say "bootstrapping Debian $SUITE (once; cached in $CACHE)"
    TMPDIR=$WORK mmdebstrap --quiet --mode=root --variant=minbase --format=tar \
        "${aptopts[@]}" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --include=ca-certificates,netbase,tzdata,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g,libnsl2,libtirpc3 \
        "$SUITE" "$out.part" "${src[@]}"
    mv "$out.part" "$out"
}

python_tree() {              # $1 = X.Y, $2 = destination root
    local v=$1 dst=$2 src
    src=$(ls -d "$PYENV"/versions/"$v".* 2>/dev/null | sort -V | tail -1)
    [ -n "$src" ] || { say "no registry answers, and there is no CPython $v under $PYENV/versions to make a stand-in of: pyenv install $v"; return 1; }
    mkdir -p "$dst/usr/local"
    tar -C "$src" -cf - \
        --exclude='__pycache__' --exclude='./lib/python*/test' --exclude='./lib/python*/*/tests' \
        --exclude='./lib/python*/idlelib' --exclude='./lib/python*/tkinter' --exclude='./lib/python*/turtledemo' \
        --exclude='./lib/python*/lib-dynload/_tkinter*' --exclude='./lib/python*/lib-dynload/_test*' \
        --exclude='./lib/python*/config-*/libpython*.a' --exclude='./lib/python*/site-packages/*' \
        --exclude='./bin/idle*' --exclude='./bin/2to3*' --exclude='./share' \
        ./lib ./include ./bin/python ./bin/python3 "./bin/python$v" ./bin/python3-config "./bin/python$v-config" \
      | tar -C "$dst/usr/local" --no-same-owner -xf -
    strip --strip-unneeded "$dst"/usr/local/lib/libpython*.so* "$dst"/usr/local/lib/python"$v"/lib-dynload/*.so 2>/dev/null || true
    # paths recorded at build time
    grep -rlIF "$src" "$dst/usr/local" 2>/dev/null | xargs -r sed -i "s#$src#/usr/local#g"
}

finish_tree() {              # $1 = X.Y, $2 = root (a full Debian tree with /usr/local filled)
    local v=$1 r=$2
    ldconfig -r "$r"
    # this machine's trust store: TLS on the way to the package index may be re-signed here
    cp /etc/ssl/certs/ca-certificates.crt "$r/etc/ssl/certs/ca-certificates.crt"
    cat > "$r/etc/pip.conf" <<CONF
[global]
cert = /etc/ssl/certs/ca-certificates.crt
timeout = ${PIP_DEFAULT_TIMEOUT:-60}
disable-pip-version-check = true
root-user-action = ignore
CONF
    local idx; idx=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || true)}
    [ -z "$idx" ] || printf 'index-url = %s\n' "$idx" >> "$r/etc/pip.conf"
    # pip as the official image has it: from ensurepip's bundled wheel, needs no network
    chroot "$r" /usr/local/bin/python3 -m ensurepip --default-pip >/dev/null 2>&1 || { say 'ensurepip failed'; return 1; }
    find "$r/usr/local" -name __pycache__ -prune -exec rm -rf {} +
    chroot "$r" /usr/local/bin/python -c 'import ssl, sqlite3, bz2, lzma, ctypes, readline, uuid, zlib, hashlib, asyncio'
    find "$r/usr/local" -name __pycache__ -prune -exec rm -rf {} +
}

for v in "${VERSIONS[@]}"; do
    tag=python:$v-slim
    have=$($DOCKER image inspect -f '{{index .Config.Labels "standin.recipe"}}' "$tag" 2>/dev/null || true)
    if [ "$have" = "$RECIPE" ]; then say "$tag: up to date"; continue; fi
    if $DOCKER image inspect "$tag" >/dev/null 2>&1 && [ -z "$have" ]; then say "$tag: a real image is here, kept"; continue; fi
    if [ "${BASE_IMAGE_PULL:-1}" = 1 ] && timeout 20 $DOCKER pull -q "$tag" >/dev/null 2>&1; then say "$tag: pulled"; continue; fi
    mkdir -p "$CACHE"
    exec 9>"$CACHE/.lock"; flock 9
    tarball=$CACHE/python-$v-slim-$RECIPE.tar
    if [ ! -s "$tarball" ]; then
        debian_rootfs
        root=$WORK/tree; mkdir "$root"
        tar -C "$root" -xf "$CACHE/debian-$SUITE-$RECIPE.tar"
        python_tree "$v" "$root"
        finish_tree "$v" "$root"
        tar -C "$root" --numeric-owner -cf "$tarball.part" . && mv "$tarball.part" "$tarball"
        rm -rf "$root"
    fi
    full=$(tar -xOf "$tarball" ./usr/local/include/python"$v"/patchlevel.h | sed -n 's/.*PY_VERSION  *"\(.*\)"/\1/p')
    $DOCKER import \
        -c "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PYTHON_VERSION=$full" \
        -c 'CMD ["python3"]' -c "LABEL standin.recipe=$RECIPE standin.of=$tag" \
        "$tarball" "$tag" >/dev/null
    flock -u 9
    say "$tag: stand-in made (CPython $full, $($DOCKER image inspect -f '{{.Size}}' "$tag" | awk '{printf "%.0f MB", $1/1e6}'))"
done
