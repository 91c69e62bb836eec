"""Pictures of the dashboards without Grafana: `python -m monitoring.preview` asks Prometheus what their panels ask, and
draws each dashboard as one SVG file.

A tool of development; no process of the service imports it. It knows the kinds of panels, units and transformations
that our dashboards use, and says so when it meets another one.
"""
