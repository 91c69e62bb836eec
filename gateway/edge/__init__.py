"""Needs of browsers, proxies and thin lines: other origins, path prefixes, compressed bodies."""
