"""Budgets: limits on what the requests of this process hold, of which no owner of API keys may have all."""


class Share:
    """The part of a budget that the requests of one owner hold."""

    __slots__ = ("_budget", "_most", "held")

    def __init__(self, budget: "Budget", most: int) -> None:
        self._budget = budget
        self._most = most
        self.held = 0
        """Amount that is held now."""

    def has_room(self, amount: int, held: int = 0, limit: int | None = None) -> bool:
        """Return True if a request may hold an amount; always so while less than half of the budget would be held.

        A request that is alone is never too large. The only one of its owner may exceed the owner's half.

        Args:
            amount: all that the request would hold.
            held: the part of it that it holds already.
            limit: limit for requests of this kind, at least half of the budget; by default the budget's.
        """
        budget = self._budget
        own = self.held - held
        if own and own + amount > self._most:
            return False
        others = budget.counted - min(self.held, self._most) + own
        return not others or others + amount <= (budget.limit if limit is None else limit)

    def add(self, amount: int) -> None:
        """Hold an amount more, or less if it is negative."""
        before, most = self.held, self._most
        self.held = after = before + amount
        self._budget.counted += amount if before <= most and after <= most else min(after, most) - min(before, most)


class Budget:
    """A limit on an amount that requests hold, such as bytes or rows; an owner of API keys may have half of it.

    Where no keys are asked for, all requests are those of one owner without a name, who may have all of it.
    A single request may be larger than half. The excess does not count against other owners: what is held in all may
    exceed the limit by that much, and by one request only, since a second one of this size has no room beside it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.half = (limit + 1) // 2
        """Most that one owner may have."""
        self.counted = 0
        """Amount that counts now: of each owner at most the most that it may have."""
        self._shares = {"": Share(self, limit)}

    @property
    def held(self) -> int:
        """Amount that is held now."""
        return sum(share.held for share in self._shares.values())

    def share_of(self, owner: str) -> Share:
        """Return the share of an owner, of whom there is a limited number."""
        share = self._shares.get(owner)
        if share is None:
            share = self._shares[owner] = Share(self, self.half)
        return share
