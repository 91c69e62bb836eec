"""`docker compose` itself, by a real engine."""
