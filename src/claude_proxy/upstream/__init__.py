"""Connections to upstreams: an HTTP/1.1 client connection over httptools, a pool, TLS, outbound proxies."""
