"""Random numbers that can be had again: one seed for a run, and a named stream for every use of it."""

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for one named use, so that adding a use elsewhere does not change this one.

    Args:
        seed: the run's seed.
        names: what the stream is for, for example ``("order", epoch)``.
    Returns:
        An integer in [0, 2**63), the same on every machine and under every PYTHONHASHSEED.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
