from tests.support.exported import exported
from tests.support.trained import fitted, iris, one_thread, store

__all__ = ["exported", "fitted", "iris", "one_thread", "store"]
