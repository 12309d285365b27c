"""The header fields that a reverse proxy, tunnel or CDN in front of us adds to a request.

The list has two uses. A request with such a field does not come from this machine, whatever its peer's address is
(`access/peers.py`); and the fields are not sent upstream, because they describe our users (`proxy/headers.py`).

The list is closed, because every other field passes upstream unchanged (docs/design.md, "What is changed"). It contains a name
if the documentation of a front says that the front sets it, unless clients set it too: `x-request-id`, `traceparent`,
`x-amzn-trace-id` and `x-cloud-trace-context` come from tracing libraries, `cf-aig-*` and `cf-access-client-*` are for an
upstream behind Cloudflare, `x-envoy-max-retries`, `fastly-debug` and `x-azure-debuginfo` are requests to such a front.

Sources: RFC 7239, RFC 9110 section 7.6.3, RFC 8586, RFC 9440; the documentation on request headers of nginx and its Kubernetes
ingress, Apache, HAProxy, Traefik, Caddy, Envoy, Varnish, Squid, Cloudflare, CloudFront and AWS load balancers, Fastly, Akamai,
Azure Front Door, Application Gateway and App Service, Google Cloud, Fly, Vercel, Netlify, DigitalOcean, Tailscale, ngrok,
oauth2-proxy, Authelia, authentik, Pomerium.
"""

from __future__ import annotations

_NAMES = frozenset(
    b"""
    forwarded via cdn-loop client-cert client-cert-chain
    x-forwarded forwarded-for x-real-ip x-real-port x-client-ip client-ip x-cluster-client-ip x-remote-ip x-remote-addr
    x-originating-ip x-proxyuser-ip proxy-client-ip true-client-ip x-true-client-ip
    x-scheme x-url-scheme x-nginx-proxy front-end-https x-rewrite-url x-varnish x-bluecoat-via surrogate-capability
    x-envoy-external-address x-envoy-internal x-envoy-attempt-count x-envoy-expected-rq-timeout-ms x-envoy-original-path
    x-envoy-original-host x-envoy-original-method x-envoy-decorator-operation x-envoy-ip-tags x-envoy-is-timeout-retry
    x-envoy-downstream-service-cluster x-envoy-downstream-service-node x-envoy-peer-metadata x-envoy-peer-metadata-id
    x-amz-cf-id fastly-client fastly-client-ip fastly-ff fastly-ssl fastly-temp-xff fastly-orig-accept-encoding
    x-azure-clientip x-azure-socketip x-azure-ref x-azure-requestchain x-azure-fdid x-azure-ja4-fingerprint
    x-appgw-trace-id x-arr-log-id x-arr-ssl x-waws-unencoded-url x-site-deployment-id disguised-host
    fly-client-ip fly-region fly-request-id fly-dispatch-start fly-traceparent
    do-connecting-ip x-nf-client-connection-ip x-vercel-id x-sucuri-clientip incap-client-ip
    remote-user remote-groups remote-email remote-name
    """.split()
)
_PREFIXES = (
    b"x-forwarded-",
    b"x-original-",
    b"cf-",
    b"cloudfront-",
    b"x-amzn-oidc-",
    b"x-amzn-mtls-",
    b"x-amzn-tls-",
    b"akamai-",
    b"x-akamai-",
    b"x-fd-",
    b"x-ms-client-principal",
    b"x-appengine-",
    b"x-goog-authenticated-user-",
    b"x-goog-iap-",
    b"fly-forwarded-",
    b"x-vercel-forwarded-",
    b"x-vercel-ip-",
    b"tailscale-",
    b"ssl-client-",
    b"x-ssl-client-",
    b"wl-proxy-",
    b"x-auth-request-",
    b"x-authentik-",
    b"x-pomerium-",
)
_CLIENTS = (b"cf-aig-", b"cf-access-client-")


def added_by_front(name: bytes) -> bool:
    """Whether a front adds the field `name` (lower-case) to requests it forwards."""
    return name in _NAMES or (name.startswith(_PREFIXES) and not name.startswith(_CLIENTS))
