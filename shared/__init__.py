"""The agreement between the processes: settings, messages, the job record, metric names.

Imports `headrace` and no process, and neither FastAPI nor NumPy nor scikit-learn.
"""
