"""Models of MLflow: its registry, its files, and their way into a model store."""
