"""Speed as a ratio against peers in the same run; never a timed test."""
