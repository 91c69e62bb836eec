from tests.support.trained import fitted, iris, one_thread, store

__all__ = ["fitted", "iris", "one_thread", "store"]
