"""Fits a model and writes a version of it, artifact and manifest, into the model store.

Runs once and ends: it must not know who serves the model, neither the queue nor HTTP.
"""
