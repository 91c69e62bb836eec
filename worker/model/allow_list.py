"""Permissions of a worker: what the artifacts that it loads may hold beside the parts of fitted estimators."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.models.signing import PublicKeys


@dataclass(frozen=True)
class AllowList:
    """The modules, types and signers that a worker trusts beside the built-in rules."""

    modules: frozenset[str] = frozenset()
    """Packages or modules of which pickles may use everything."""
    skops_types: frozenset[str] = frozenset()
    """Types that skops artifacts may hold, by qualified name."""
    signers: "PublicKeys | None" = None
    """Keys one of which must have signed a version; None if versions need no signature."""
