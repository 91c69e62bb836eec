"""Logs, traces, and the parts of metrics that every process shares."""
