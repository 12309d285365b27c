"""What operators see of exchanges: the log line, metrics, the cache verdict, running sessions and their status."""
