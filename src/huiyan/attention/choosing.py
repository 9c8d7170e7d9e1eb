"""Which kernel computes an attention, and why: one decision, taken by ``attend`` and told by ``plan``.

It depends on what is asked for, the shapes and the kind of device, never on how much memory happens to be free: a run
that is repeated takes the same way.
"""

from typing import Literal, get_args

from torch import Tensor

from huiyan.attention.masks import Causal, Global, Keys, Prefix, Segments, Where, Window
from huiyan.attention.scoring import Scoring
from huiyan.core.errors import ConfigError, closest

Kernel = Literal["auto", "oracle", "sdpa", "packed", "blockwise", "flex"]
_KERNELS = get_args(Kernel)

# Of these kinds exactly: what is derived from one may have another rule.
_KNOWN_MASKS = (Causal, Window, Prefix, Global, Keys, Segments, Where)
LARGEST_MASK = 1 << 22  # pairs of a mask that is written out: below, the fused kernel with a mask is the quickest


def choose_kernel(kernel: str, q: Tensor, k: Tensor, scoring: Scoring, *, packed: bool) -> str:
    """The kernel that ``attend`` takes.

    Raises:
        ConfigError: ``kernel`` is unknown, or does not take what is asked for.
    """
    if kernel not in _KERNELS:
        raise ConfigError(f"There is no attention kernel {kernel!r}.", hint=closest(kernel, _KERNELS))
    device = q.device.type
    n_queries, n_keys = (x.shape[0 if packed else 2] for x in (q, k))
    if kernel == "auto":
        return decide(scoring, n_queries, n_keys, device=device, packed=packed)[0]
    objection = _objection(kernel, scoring, device=device, packed=packed)
    if objection:
        raise ConfigError(f"The kernel {kernel!r} does not take {objection}.", hint="Choose 'auto'.")
    return kernel


def decide(scoring: Scoring, n_queries: int, n_keys: int, *, device: str, packed: bool) -> tuple[str, str]:
    """The kernel that "auto" stands for, and the reason in words."""
    if packed:
        return "packed", "sequences are laid end to end: each is computed by itself, without padding"
    if scoring.is_fused(n_queries, n_keys):
        return "sdpa", "nothing but a scale and at most a causal mask: torch's fused kernel keeps no map"
    if scoring.is_plain:
        if isinstance(scoring.mask, Keys):
            return "sdpa", "the mask is one row for all queries: nothing of the map is written out"
        if n_queries * n_keys <= LARGEST_MASK:
            return "sdpa", "the mask is small enough to be written out for torch's fused kernel"
    asks = scoring.mask is not None and scoring.mask.has(Where)
    # A rule in Python need not be one that a compiler understands: flex takes it where it is asked for by name.
    if device == "cuda" and not asks and _objection("flex", scoring, device=device, packed=packed) == "":
        return "flex", "FlexAttention compiles the mask and the bias into one fused kernel"
    wanted = [
        name
        for name, there in {
            "a mask over a long sequence": scoring.mask is not None and scoring.is_plain,
            "a relative position": scoring.terms is not None,
            "a soft cap": scoring.soft_cap is not None,
            "sinks": scoring.sinks is not None,
            "dropout": scoring.dropout is not None,
        }.items()
        if there
    ]
    return "blockwise", f"{', '.join(wanted)}: torch's fused kernel would write out the whole map, blocks need not"


def _objection(kernel: str, scoring: Scoring, *, device: str, packed: bool) -> str:
    """What of this a kernel does not take, in words; empty if it takes all."""
    if packed and kernel in ("sdpa", "flex"):
        return "packed input, `t h d` with lengths"
    if not packed and kernel == "packed":
        return "dense input, `b h q d`"
    if kernel == "flex" and device != "cuda":
        return f"tensors on {device!r}, only on 'cuda'"
    beyond = {
        "relative positions": scoring.terms is not None and kernel == "sdpa",
        "positions that are multiplied with queries, keys or weights": kernel == "flex"
        and scoring.terms is not None
        and not scoring.terms.is_bias_only,
        "a soft cap": scoring.soft_cap is not None and kernel == "sdpa",
        "sinks": scoring.sinks is not None and kernel == "sdpa",
        "dropout": scoring.dropout is not None and kernel in ("sdpa", "flex"),
        "a mask of somebody's own": kernel == "flex"
        and scoring.mask is not None
        and any(type(part) not in _KNOWN_MASKS for part in scoring.mask.parts()),
    }
    return next((name for name, met in beyond.items() if met), "")
