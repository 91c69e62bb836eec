"""HTML pages about a version, as far as its manifest tells."""
