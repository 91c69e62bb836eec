"""Jobs: durable requests with an id and one outcome."""
