"""Metrics of the worker, its models and its pool, and the endpoint that exposes them."""
