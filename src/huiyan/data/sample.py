"""Some of many."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most that many of the items, evenly from beginning to end."""
    n = min(len(items), most)
    return [items[place * len(items) // n] for place in range(n)]
