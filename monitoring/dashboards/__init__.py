"""The source of Grafana's dashboards: `python -m monitoring.dashboards` writes them as JSON, which is committed.

A tool of development: no process of the service imports it. It needs Python 3.11, as grafana-foundation-sdk does.
"""
