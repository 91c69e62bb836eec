"""Models as callers see them: versions, aliases, rollouts, and the parsers of their rows."""
