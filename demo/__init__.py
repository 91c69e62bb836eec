"""Traffic for a running stack, so that every dashboard moves: `python -m demo`. A client: it knows HTTP alone."""
