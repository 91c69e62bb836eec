"""How often the garbage collector looks at what a gateway process holds.

With hundreds of requests on their way it would look after every few of them, find all of them in use, and now and then
look at all that was imported too: a quarter of the gateway's time, and pauses of tens of milliseconds.
"""

import gc

YOUNG_OBJECTS = 20_000
"""Containers that may be made, and not be freed, before a look at them: those of about a thousand requests."""


def settle() -> None:
    """Call when everything that stays has been made: it is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
