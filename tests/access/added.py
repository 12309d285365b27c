"""What real fronts add to a request, from their documentation, and what looks like it but comes from clients."""

ADDED: dict[str, list[str]] = {
    "nginx as most set it up": ["X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"],
    "ingress-nginx": ["X-Forwarded-Scheme", "X-Scheme", "X-Original-Forwarded-For", "X-Original-URI", "ssl-client-verify"],
    "Apache": ["X-Forwarded-Server", "Via"],
    "Traefik": ["X-Forwarded-Server", "X-Real-Ip", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Prefix"],
    "Caddy": ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via"],
    "HAProxy": ["X-Forwarded-For", "Forwarded", "X-SSL-Client-CN"],
    "Squid and Varnish": ["Via", "X-Forwarded-For", "X-Varnish", "Surrogate-Capability"],
    "Envoy": ["X-Envoy-External-Address", "X-Envoy-Internal", "X-Envoy-Attempt-Count", "X-Envoy-Expected-Rq-Timeout-Ms"],
    "Envoy's mesh": ["X-Envoy-Decorator-Operation", "X-Envoy-Peer-Metadata", "X-Envoy-Original-Path", "X-Forwarded-Client-Cert"],
    "Cloudflare": ["CF-Connecting-IP", "CF-Connecting-IPv6", "CF-IPCountry", "CF-Ray", "CF-Visitor", "CDN-Loop", "CF-EW-Via"],
    "Cloudflare Access": ["Cf-Access-Jwt-Assertion", "Cf-Access-Authenticated-User-Email", "Cf-Warp-Tag-Id"],
    "Cloudflare Enterprise, Akamai": ["True-Client-IP", "Akamai-Origin-Hop", "X-Akamai-Config-Log-Detail", "X-Akamai-SR-Hop"],
    "CloudFront": [
        "X-Amz-Cf-Id",
        "CloudFront-Viewer-Address",
        "CloudFront-Forwarded-Proto",
        "CloudFront-Is-Mobile-Viewer",
        "Via",
    ],
    "AWS load balancer": ["X-Forwarded-Port", "X-Amzn-Oidc-Identity", "X-Amzn-Mtls-Clientcert", "X-Amzn-Tls-Version"],
    "Fastly": ["Fastly-Client-IP", "Fastly-FF", "Fastly-SSL", "Fastly-Client", "CDN-Loop", "X-Varnish"],
    "Azure Front Door": ["X-Azure-ClientIP", "X-Azure-SocketIP", "X-Azure-Ref", "X-Azure-FDID", "X-Azure-RequestChain"],
    "Azure's probes": ["X-FD-HealthProbe"],
    "Azure Application Gateway": ["X-Original-Host", "X-AppGW-Trace-Id"],
    "Azure App Service": ["Client-IP", "X-Client-IP", "Disguised-Host", "X-ARR-SSL", "X-MS-Client-Principal-Name"],
    "Google": ["Via", "X-Forwarded-For", "X-AppEngine-User-IP", "X-Goog-IAP-JWT-Assertion", "X-Goog-Authenticated-User-Email"],
    "Fly": ["Fly-Client-IP", "Fly-Forwarded-Port", "Fly-Region", "Fly-Request-Id", "Via"],
    "Vercel": ["X-Vercel-Forwarded-For", "X-Vercel-IP-Country", "X-Vercel-Id"],
    "Netlify and DigitalOcean": ["X-Nf-Client-Connection-Ip", "DO-Connecting-IP"],
    "Tailscale": ["Tailscale-User-Login", "Tailscale-User-Name", "Tailscale-Headers-Info", "Tailscale-Funnel-Request"],
    "ngrok": ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"],
    "sign-on": ["X-Auth-Request-Email", "Remote-User", "Remote-Email", "X-authentik-username", "X-Pomerium-Jwt-Assertion"],
    "TLS terminators": ["Client-Cert", "Client-Cert-Chain"],
    "others": ["X-Cluster-Client-IP", "X-Remote-IP", "X-Sucuri-ClientIP", "WL-Proxy-Client-IP", "Front-End-Https"],
}
NAMES = sorted({name.lower() for names in ADDED.values() for name in names})

CLIENTS = [
    # Claude Code and the SDKs
    "host", "user-agent", "accept", "accept-encoding", "content-type", "content-length", "connection", "authorization",
    "x-api-key", "anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access", "x-app",
    "x-claude-code-session-id",
    "x-claude-code-agent-id", "x-claude-code-request-class", "x-claude-remote-session-id", "x-stainless-arch", "x-stainless-lang",
    "x-stainless-retry-count", "x-stainless-timeout", "x-client-request-id", "x-anthropic-billing-header", "idempotency-key",
    # tracing libraries
    "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-request-id", "x-correlation-id", "x-amzn-trace-id",
    "x-cloud-trace-context", "sentry-trace",
    # for an upstream that is itself behind such a front
    "cf-aig-authorization", "cf-aig-metadata", "cf-access-client-id", "cf-access-client-secret", "x-envoy-max-retries",
    "x-envoy-upstream-rq-timeout-ms", "fastly-debug", "x-azure-debuginfo", "fly-prefer-region", "x-vercel-protection-bypass",
    "ngrok-skip-browser-warning", "x-amz-date", "x-amz-security-token", "x-amzn-bedrock-trace", "x-goog-api-key",
    "x-goog-user-project", "x-portkey-api-key", "helicone-auth", "x-litellm-tags",
    # near misses
    "x-forward", "x-realip", "cf", "cfx-ray", "xcf-ray", "viator", "x-via", "my-x-forwarded-for", "x-fdid", "tailscale",
]  # fmt: skip
