"""The model card: an HTML page about one version."""
