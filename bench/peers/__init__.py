"""The peers: small honest programs that serve the same model."""
