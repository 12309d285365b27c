# Part of image-check.sh: CMD replaced by each server of the documents.
i=0
for cmd in \
    'fastapi run /app/proxy.py --host 0.0.0.0 --port 3000' \
    'fastapi run /app/proxy.py --host 0.0.0.0 --port 3000 --proxy-headers --forwarded-allow-ips=* --workers 4 --root-path /api/v1' \
    'uvicorn proxy:app --host 0.0.0.0 --port 3000' \
    'gunicorn -k uvicorn.workers.UvicornWorker -w 2 proxy:app -b 0.0.0.0:3000' \
    'gunicorn -k asgi -w 2 proxy:app -b 0.0.0.0:3000' \
    'gunicorn -c /app/gunicorn_conf.py proxy:app' \
    'hypercorn proxy:app --bind 0.0.0.0:3000' \
    'claude-proxy serve --workers 2'
do
    i=$((i+1)); run s$i --read-only --tmpfs /tmp "$IMG" $cmd
    t "$cmd: healthy" until_ok 40 health s$i
    t "... streams" flows "$(url s$i)"
    gone s$i
done
