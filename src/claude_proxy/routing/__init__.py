"""Which upstream, and what after a failure. Pure: `now` is handed in."""
