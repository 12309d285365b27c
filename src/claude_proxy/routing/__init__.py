"""Which upstream to use, and what to do after a failure. Pure: `now` is an argument."""
