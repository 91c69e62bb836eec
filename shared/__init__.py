"""The agreement between the processes: settings, messages, the job record, metric names.

Imports none of the other packages, and neither FastAPI nor NumPy nor scikit-learn.
"""
