"""What is seen of exchanges as they pass: the log line, the cache verdict, the sessions that run and their status."""
