"""Offline training: data sets, cross-validation, and the trainer of Compose."""
