"""Traffic for a running stack, so that every dashboard moves: `python -m demo`. It is a client and uses HTTP alone."""
