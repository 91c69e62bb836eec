"""What watches the service: configuration of Prometheus and Grafana, and the source of the dashboards."""
