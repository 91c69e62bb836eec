"""Reading of the aliases of all models, of which damaged ones hold up no others."""

import logging
from collections.abc import Collection, Mapping

from headrace.errors import ModelError
from headrace.models.alias import PRODUCTION, Alias
from headrace.models.store import ModelStore

logger = logging.getLogger(__name__)

AliasesRead = tuple[dict[str, Alias], set[str]]
"""The aliases of a model, and the names of those that can't be read."""


class AliasReader:
    """Reader of the aliases in the store, which logs each damage once."""

    def __init__(self, store: ModelStore, default_model: str) -> None:
        self._store = store
        self._default_model = default_model
        self._complaints: dict[tuple[str, str], str] = {}
        """Last error of each name and alias that the store could not read."""

    def read(self, known: Mapping[str, Collection[str]]) -> dict[str, AliasesRead]:
        """Return the aliases of all models by name; blocks.

        Args:
            known: names of the aliases that were read before, by model.

        Raises:
            ModelError: if the store does not answer, or no alias of the default model was ever read.
        """
        return {name: self._read(name, known.get(name, ())) for name in self._store.names()}

    def _read(self, name: str, known: Collection[str]) -> AliasesRead:
        damaged: set[str] = set()

        def complain(alias: str, error: ModelError) -> None:
            damaged.add(alias)
            if self._complaints.get((name, alias)) != str(error):
                self._complaints[name, alias] = str(error)
                logger.error("%s: %s can't be read and stays as it is: %s", name, alias, error)

        try:
            return self._store.alias_records(name, complain), damaged
        except ModelError as error:
            if not known and name == self._default_model:
                raise
            for alias in known or [PRODUCTION]:
                complain(alias, error)
            return {}, damaged
