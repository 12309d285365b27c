"""The Messages API as bytes: server-sent events, usage, errors. Pure: no event loop, no sockets."""
