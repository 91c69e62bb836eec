"""What every process agrees on: settings, messages, the job record, the manifest, metric names.

Imports none of the other packages, and neither FastAPI nor NumPy nor scikit-learn.
"""
