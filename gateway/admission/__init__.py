"""Admission: what can't be answered in time is refused at once."""
