"""Export of fitted estimators: artifact, manifest and checks."""
