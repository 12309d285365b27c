"""What the operators see: the log line of each exchange."""
