# docker build -t claude-proxy . && docker run -d --name claude-proxy -p 3000:3000 claude-proxy
FROM python:3.13-slim

LABEL org.opencontainers.image.title="claude-proxy" \
      org.opencontainers.image.description="A self-hosted proxy for the Anthropic API" \
      org.opencontainers.image.licenses="MIT"

WORKDIR /app

# HOME is writable for any user id. 0.0.0.0 is the container's own network; -p decides who can reach it.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app/src:/app \
    HOME=/data \
    DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=3000

# The requirements come first, so that a code change keeps this layer. Each package is checked against its hash.
# The second file adds gunicorn and hypercorn for those who replace CMD; --build-arg SERVERS= leaves them out.
ARG SERVERS=deploy/docker/requirements-servers.txt
COPY --chmod=644 requirements.txt ${SERVERS} deploy/docker/slim.py /app/
RUN for file in /app/requirements*.txt; do set -- "$@" -r "$file"; done \
 && pip install --no-cache-dir --no-compile --upgrade --require-hashes "$@" \
 && python /app/slim.py

# Bytecode for what a start imports, and only for that: the image's standard library has none, a read-only root could
# not store it, and compiling at each start takes 1.4 s. Then the user and the data folder.
COPY --chmod=644 deploy/docker/*.py gunicorn_conf.py /app/
RUN env -u PYTHONDONTWRITEBYTECODE python /app/warm.py \
 && printf '#!/usr/local/bin/python\nimport sys\nfrom claude_proxy.cli import main\nsys.exit(main())\n' >/usr/local/bin/claude-proxy \
 && chmod 755 /usr/local/bin/claude-proxy \
 && install -d -m 2770 -o 1001 -g 0 /data

COPY --chmod=755 src /app/src
RUN python -m compileall -q /app/src

# Not root; any user id with group 0 works too (OpenShift).
USER 1001:0
VOLUME /data
EXPOSE 3000

# Needs no curl. Every second until the first answer, then every 30: /health with the standard library, about 30 ms.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["python", "-I", "-S", "/app/healthcheck.py"]

COPY --chmod=644 proxy.py /app/proxy.py

# Exec form: the proxy is process 1 and gets Docker's SIGTERM itself. `claude-proxy serve` rather than `fastapi run`, because it
# finishes the running streams within GRACEFUL_TIMEOUT (8 s, below Docker's 10), then cuts the rest and exits 0; the others
# wait for the last stream without a limit, until Docker kills them. They work too: docs/servers.md.
CMD ["claude-proxy", "serve", "--app", "/app/proxy.py"]
