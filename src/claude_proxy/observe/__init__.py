"""What operators see: the log line of each exchange."""
