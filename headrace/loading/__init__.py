"""Reading of artifacts that nobody vouches for: what may be in them, and how much memory they may take."""
