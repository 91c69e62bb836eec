"""The peers: small programs, each tuned in good faith, that serve the same model."""
