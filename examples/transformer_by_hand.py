"""The Transformer of 2017 in plain Python: lists, loops and `math`, and the same numbers as the library's.

Run: python examples/transformer_by_hand.py

docs/transformer.md reads it aloud.
"""

import math

Row = list[float]
Rows = list[Row]


def times(rows: Rows, weight: Rows, bias: Row) -> Rows:
    """A linear layer: every row becomes as many sums of products as the weight has rows."""
    return [
        [sum(a * b for a, b in zip(row, one, strict=True)) + c for one, c in zip(weight, bias, strict=True)]
        for row in rows
    ]


def softmax(scores: Row) -> Row:
    """Shares that add up to 1; the largest is taken off first, so that no power overflows."""
    most = max(scores)
    powers = [math.exp(score - most) for score in scores]
    return [power / sum(powers) for power in powers]


def attend(queries: Rows, keys: Rows, values: Rows, *, causal: bool) -> Rows:
    """Equation 1: each query asks every key, and takes of its value what fits."""
    mixed = []
    for i, query in enumerate(queries):
        seen = i + 1 if causal else len(keys)
        scores = [sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query)) for key in keys[:seen]]
        shares = softmax(scores)
        mixed.append([sum(s * v[d] for s, v in zip(shares, values, strict=False)) for d in range(len(values[0]))])
    return mixed


def attention(p: dict, name: str, rows: Rows, context: Rows, n_heads: int, *, causal: bool = False) -> Rows:
    """Section 3.2.2: several heads, each on its own slice of the width, side by side."""
    q, k, v = (
        times(x, p[f"{name}.{part}.weight"], p[f"{name}.{part}.bias"])
        for x, part in ((rows, "query"), (context, "key"), (context, "value"))
    )
    d = len(q[0]) // n_heads
    heads = [attend(*([row[h * d : h * d + d] for row in x] for x in (q, k, v)), causal=causal) for h in range(n_heads)]
    joined = [[x for head in heads for x in head[i]] for i in range(len(rows))]
    return times(joined, p[f"{name}.out.weight"], p[f"{name}.out.bias"])


def feed_forward(p: dict, name: str, rows: Rows) -> Rows:
    """Equation 2: each token by itself, wider, cut at 0, and back."""
    inner = times(rows, p[f"{name}.inner.weight"], p[f"{name}.inner.bias"])
    return times([[max(0.0, x) for x in row] for row in inner], p[f"{name}.outer.weight"], p[f"{name}.outer.bias"])


def add_and_norm(p: dict, name: str, rows: Rows, added: Rows) -> Rows:
    """Section 3.1: what a sublayer says is added to what it was told; then mean 0 and variance 1."""
    normed = []
    for row, more in zip(rows, added, strict=True):
        both = [a + b for a, b in zip(row, more, strict=True)]
        mean = sum(both) / len(both)
        spread = math.sqrt(sum((x - mean) ** 2 for x in both) / len(both) + 1e-5)
        gains = zip(both, p[f"{name}.weight"], p[f"{name}.bias"], strict=True)
        normed.append([(x - mean) / spread * gain + shift for x, gain, shift in gains])
    return normed


def embed(p: dict, tokens: list[int]) -> Rows:
    """Sections 3.4 and 3.5: a vector for the word, times √m, and waves for where it stands."""
    table = p["encoder.embeddings.words.weight"]
    m = len(table[0])
    rows = []
    for position, token in enumerate(tokens):
        angles = [position / 10_000 ** (i // 2 * 2 / m) for i in range(m)]
        waves = [math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angles)]
        rows.append([x * math.sqrt(m) + wave for x, wave in zip(table[token], waves, strict=True)])
    return rows


def encode(p: dict, tokens: list[int], n_layers: int, n_heads: int) -> Rows:
    """The left half of figure 1."""
    x = embed(p, tokens)
    for n in range(n_layers):
        at = f"encoder.stack.layers.{n}"
        x = add_and_norm(p, f"{at}.attention_norm", x, attention(p, f"{at}.attention", x, x, n_heads))
        x = add_and_norm(p, f"{at}.feed_forward_norm", x, feed_forward(p, f"{at}.feed_forward", x))
    return x


def decode(p: dict, tokens: list[int], source: Rows, n_layers: int, n_heads: int) -> Rows:
    """The right half: it sees what it has written, then the source; and scores every word for the next place."""
    x = embed(p, tokens)
    for n in range(n_layers):
        at = f"decoder.stack.layers.{n}"
        x = add_and_norm(p, f"{at}.attention_norm", x, attention(p, f"{at}.attention", x, x, n_heads, causal=True))
        x = add_and_norm(p, f"{at}.cross.norm", x, attention(p, f"{at}.cross.attention", x, source, n_heads))
        x = add_and_norm(p, f"{at}.feed_forward_norm", x, feed_forward(p, f"{at}.feed_forward", x))
    table = p["encoder.embeddings.words.weight"]
    return times(x, table, [0.0] * len(table))


def main() -> None:
    """The same numbers as the library's."""
    import torch

    from huiyan.core.packed import Packed
    from huiyan.models import fresh_language_model
    from huiyan.models.families.transformer_2017 import transformer_2017

    config = transformer_2017(20, start_id=0, width=16, n_layers=2, n_heads=2, feed_forward_width=24, dropout=0.0)
    model = fresh_language_model(config, seed=0)
    source, text = [5, 9, 2, 7], [0, 7, 2]
    p = {name: parameter.tolist() for name, parameter in model.named_parameters()}
    by_hand = torch.tensor(decode(p, text, encode(p, source, 2, 2), 2, 2))
    with torch.no_grad():
        ours = model(Packed.from_lists([text]), source=Packed.from_lists([source]))
    print(f"largest difference of {ours.numel()} scores: {float((by_hand - ours).abs().max()):.1e}")
    torch.testing.assert_close(by_hand, ours, atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    main()
