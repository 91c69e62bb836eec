"""What the Makefile calls: the virtual environments, and everything running on one machine without Docker."""
