"""The contract of models: manifest, model store, aliases, signatures."""
