"""Training data and predictions, read into the form that the manifest describes."""
