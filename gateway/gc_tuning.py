"""Frequency of garbage collection in a gateway process.

By Python's defaults, with hundreds of requests in progress, the collector would run after every few of them, find all
of them in use, and now and then traverse all imported modules too: that was a quarter of the gateway's time, with
pauses of tens of milliseconds.
"""

import gc

YOUNG_OBJECTS = 20_000
"""Container objects allocated and not freed before a collection: those of about a thousand requests."""


def freeze_startup_objects() -> None:
    """Exclude all objects that exist now from collection; call when everything that stays has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
