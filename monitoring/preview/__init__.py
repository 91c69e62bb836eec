"""Pictures of the dashboards without Grafana.

`python -m monitoring.preview` asks Prometheus for the data of each panel, and draws each dashboard as one SVG file. A
tool of development: no process of the service imports it. It knows the panels, units and transformations that our
dashboards use, and raises an error for others.
"""
