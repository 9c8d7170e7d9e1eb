"""Which offsets a table has rows for."""


def bounded(lowest: int, highest: int, *, below: int | None = None, above: int | None = None) -> tuple[int, int]:
    """The first and the last offset that need a row, both included; at least one row, also for an empty tile.

    Args:
        lowest: of the offsets asked for.
        highest: of the offsets asked for.
        below: offsets from here down are all alike.
        above: offsets from here up are all alike.
    """
    first, last = _clamp(lowest, below, above), _clamp(highest, below, above)
    return first, max(first, last)


def _clamp(offset: int, below: int | None, above: int | None) -> int:
    if below is not None:
        offset = max(offset, below)
    return offset if above is None else min(offset, above)
