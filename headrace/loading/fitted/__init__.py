"""Checks of the fitted attributes by which native code finds its way through arrays."""
