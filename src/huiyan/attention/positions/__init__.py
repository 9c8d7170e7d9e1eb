"""How attention learns where a token stands. Each scheme is a small module, with its paper and its equation.

With o = j − i, the offset of key j from query i:

| scheme | acts on | learns | source |
|---|---|---|---|
| ``Sinusoidal`` | the input: x + PE(p) | nothing | Vaswani et al. 2017 |
| ``Learned`` | the input: x + table[p] | `n_positions m` | Gehring et al. 2017 |
| ``Rotary`` | queries and keys, which turn by p θ | nothing | Su et al. 2021 |
| ``Alibi`` | scores: − slope · abs(o) | nothing | Press et al. 2022 |
| ``T5Bias`` | scores: + table[bucket(o)] | `n_buckets h` | Raffel et al. 2020 |
| ``ShawRelative`` | keys and values: k + keys[o], v + values[o] | two of `1 2n+1 d` | Shaw et al. 2018 |
| ``XLRelative`` | scores: (q + u) · k + (q + w) · W_kR R(−o) | u and w, `h d`; W_kR | Dai et al. 2019 |
| ``Disentangled`` | scores: + q · (P W_k)[o] + k · (P W_q)[o] | P, `2k m`; W_k, W_q | He et al. 2021 |

The first two are called on the input; the others are passed as ``attend(position=…)``. Those that act on scores are a
``ScorePosition``: ``tile(rows, columns)`` gives what they add to any part of the map, and no map is ever stored.
Rotary frequencies for longer sequences than in training: ``LinearScaling``, ``NtkScaling`` and ``YarnScaling``.
"""

from typing import TYPE_CHECKING

from huiyan.core.lazy import lazy_exports

if TYPE_CHECKING:
    from huiyan.attention.positions.alibi import Alibi
    from huiyan.attention.positions.disentangled import Disentangled, RelativeEmbeddings
    from huiyan.attention.positions.learned import Learned
    from huiyan.attention.positions.relative import RelativeTerms, ScorePosition
    from huiyan.attention.positions.rotary import Rotary
    from huiyan.attention.positions.rotary_scaling import LinearScaling, NtkScaling, RotaryScaling, YarnScaling
    from huiyan.attention.positions.shaw import ShawRelative
    from huiyan.attention.positions.sinusoidal import Sinusoidal, sinusoid
    from huiyan.attention.positions.t5 import T5Bias
    from huiyan.attention.positions.xl import XLBiases, XLRelative

__all__ = [
    "Alibi",
    "Disentangled",
    "Learned",
    "LinearScaling",
    "NtkScaling",
    "RelativeEmbeddings",
    "RelativeTerms",
    "Rotary",
    "RotaryScaling",
    "ScorePosition",
    "ShawRelative",
    "Sinusoidal",
    "T5Bias",
    "XLBiases",
    "XLRelative",
    "YarnScaling",
    "sinusoid",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Alibi": "huiyan.attention.positions.alibi",
        "Disentangled": "huiyan.attention.positions.disentangled",
        "Learned": "huiyan.attention.positions.learned",
        "LinearScaling": "huiyan.attention.positions.rotary_scaling",
        "NtkScaling": "huiyan.attention.positions.rotary_scaling",
        "RelativeEmbeddings": "huiyan.attention.positions.disentangled",
        "RelativeTerms": "huiyan.attention.positions.relative",
        "Rotary": "huiyan.attention.positions.rotary",
        "RotaryScaling": "huiyan.attention.positions.rotary_scaling",
        "ScorePosition": "huiyan.attention.positions.relative",
        "ShawRelative": "huiyan.attention.positions.shaw",
        "Sinusoidal": "huiyan.attention.positions.sinusoidal",
        "T5Bias": "huiyan.attention.positions.t5",
        "XLBiases": "huiyan.attention.positions.xl",
        "XLRelative": "huiyan.attention.positions.xl",
        "YarnScaling": "huiyan.attention.positions.rotary_scaling",
        "sinusoid": "huiyan.attention.positions.sinusoidal",
    },
)
