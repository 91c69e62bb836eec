"""The source of Prometheus' rules: `python -m monitoring.rules` writes them as YAML, which is committed.

Each module makes the content of one file as a dict. A tool of development: no process of the service imports it.
"""
