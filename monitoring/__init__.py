"""The observing side: configuration of Prometheus and Grafana, and the sources of dashboards and rules."""
