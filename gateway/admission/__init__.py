"""Admission: what cannot be answered in time is refused at once."""
