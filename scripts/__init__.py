"""Programs behind the Makefile: virtual environments, locks, and the whole service on one machine without Docker."""
