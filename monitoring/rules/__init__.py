"""The source of Prometheus' rules: `python -m monitoring.rules` writes them as YAML, which is committed.

One module per file; each gives the content as a dict. A tool of development; no process of the service imports it.
"""
