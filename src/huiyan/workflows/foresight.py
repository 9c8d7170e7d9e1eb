"""What an encoder will take at some lengths, before it runs: arithmetic, memory, and why. No weights are loaded."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import nn

from huiyan.attention.planning import Plan
from huiyan.attention.planning import plan as plan_attention
from huiyan.core.config import require
from huiyan.core.devices import device_named, pick_device
from huiyan.core.memory import total_memory_bytes
from huiyan.core.weightless import weightless
from huiyan.models.checkpoint import read_encoder_config
from huiyan.models.config import TransformerConfig
from huiyan.models.config_file import CONFIG_FILE
from huiyan.models.encoder import Encoder
from huiyan.models.hub import fetch_from_hub, is_hub_name
from huiyan.models.sources import find_model
from huiyan.models.stack import TransformerLayer
from huiyan.workflows import wording

MOST_TEXTS = 100_000
"""In a batch; the plan lists the length of each."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the peak of a step, by what they are for; ``peak`` is less than their sum where they take turns.

    Args:
        weights: the parameters of the encoder, in float32.
        gradients: of the weights, in training.
        moments: the two that Adam keeps for each weight.
        activations: what the layers save for the backward pass, or the rows that are alive without one.
        attention: what one call of attention takes besides, at its peak.
        peak: all that is alive at once, at most.
    """

    weights: int
    gradients: int
    moments: int
    activations: int
    attention: int
    peak: int


@dataclass(frozen=True, kw_only=True)
class EncoderPlan:
    """What one batch through an encoder will take.

    Args:
        model: as the user named it.
        family: of the checkpoint.
        layers: how often a token passes through attention.
        lengths: tokens of each sequence in the batch.
        max_length: the longest sequence that the model has positions for.
        training: whether it is a training step.
        attention: of one layer.
        flops: of the whole pass or step: attention, projections, feed_forward.
        memory: in bytes.
        memory_bytes: what the device has in all.
        fits: whether the peak is at most that.
        warnings: what forbids it.
    """

    model: str
    family: str
    layers: int
    lengths: tuple[int, ...]
    max_length: int
    training: bool
    attention: Plan
    flops: dict[str, int]
    memory: Memory
    memory_bytes: int
    fits: bool
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def foresee(
    model: str,
    lengths: Sequence[int],
    *,
    batch_tokens: int = 2048,
    training: bool = False,
    dropout: float = 0.0,
    precision: str = "auto",
    device: str = "auto",
    memory_bytes: int | None = None,
) -> EncoderPlan:
    """Foresee one batch through the encoder of a model, from its config.json alone.

    Args:
        model: auto, package:NAME, a folder, or owner/name on the hub, of which config.json alone is fetched.
        lengths: tokens of the sequences; a batch holds all of them, as often as fits in ``batch_tokens``.
        batch_tokens: tokens in a batch.
        training: a training step with AdamW in float32, or else a pass without gradients.
        dropout: of the attention weights, as if the model had it.
        precision: auto, fp32, bf16 or fp16.
        device: auto, cpu, cuda, cuda:N or mps.
        memory_bytes: of the device; None is what it has in all.
    Raises:
        ConfigError: a number out of range, or a device that is not here and whose memory is not given.
        SourceError: the model cannot be had, or its config.json cannot be read.
    """
    require(len(lengths) > 0 and min(lengths) > 0, "length", "at least 1, given once or more", list(lengths))
    require(batch_tokens > 0, "batch_tokens", "at least 1", batch_tokens)
    times = max(1, batch_tokens // sum(lengths))
    fits = times * len(lengths) <= MOST_TEXTS
    require(fits, "batch_tokens", f"small enough for at most {MOST_TEXTS:,} texts of these lengths", batch_tokens)
    where = pick_device() if device == "auto" else device_named(device) if memory_bytes else pick_device(device)
    config = _encoder_config(model)
    total = total_memory_bytes(where) if memory_bytes is None else memory_bytes
    each = tuple(sorted(tuple(lengths) * times))
    with weightless():
        encoder = Encoder(config)
    layers = cast("list[TransformerLayer]", encoder.stack.in_order())
    kinds = [config.distinct_layers[number] for number in config.depth_order]
    plans = {
        kind: plan_attention(
            each,
            config.n_heads,
            config.width // config.n_heads,
            device=where,
            memory_bytes=total,
            precision=precision,
            training=training,
            mask=layer.mask,
            position=layer.attention.position,
            dropout=dropout,
        )
        for kind, layer in dict(zip(kinds, layers, strict=True)).items()
    }
    attention = max(plans.values(), key=lambda plan: plan.peak_memory_bytes)  # of layers that differ, the costliest
    tokens, depth = sum(each), len(config.depth_order)
    memory = _memory(encoder, config, attention, tokens, device=where.type, training=training)
    return EncoderPlan(
        model=model,
        family=config.family,
        layers=depth,
        lengths=each,
        max_length=config.max_length,
        training=training,
        attention=attention,
        flops=_flops(layers, [plans[kind] for kind in kinds], tokens, training=training),
        memory=memory,
        memory_bytes=total,
        fits=memory.peak <= total,
        warnings=_warnings(config, max(each)),
    )


def _encoder_config(model: str) -> TransformerConfig:
    """From config.json; of a model on the hub nothing else is fetched."""
    folder = Path(model).expanduser()
    if not model or not folder.is_dir():
        folder = fetch_from_hub(model, files=(CONFIG_FILE,))[0] if is_hub_name(model) else find_model(model).folder
    return read_encoder_config(folder)


def _flops(layers: Sequence[TransformerLayer], plans: Sequence[Plan], tokens: int, *, training: bool) -> dict[str, int]:
    """Two for each weight and token; backward, the products for inputs and for weights are as much again each."""
    passes = 3 if training else 1
    found = {"attention": 0, "projections": 0, "feed_forward": 0}
    for layer, attention in zip(layers, plans, strict=True):
        found["attention"] += sum(attention.flops)
        for name, part in (("projections", layer.attention), ("feed_forward", layer.feed_forward)):
            found[name] += passes * 2 * tokens * _matrix_weights(part)
    return found


def _matrix_weights(part: nn.Module) -> int:
    return sum(module.weight.numel() for module in part.modules() if isinstance(module, nn.Linear))


def _memory(
    encoder: Encoder, config: TransformerConfig, attention: Plan, tokens: int, *, device: str, training: bool
) -> Memory:
    weights = 4 * sum(parameter.numel() for parameter in encoder.parameters())
    rows, inner = tokens * config.width, tokens * config.feed_forward_width
    half = attention.precision != "fp32"
    size = 2 if half else 4
    cast = sum(_matrix_weights(layer) for layer in encoder.stack.layers) * 2 if half else 0
    if not training:
        # The rows that come in, queries, keys and values, and what attention takes; or the wide rows, twice.
        alive = max(4 * rows + 3 * rows * size + attention.peak_memory_bytes, 8 * rows + 2 * inner * size)
        return Memory(
            weights=weights,
            gradients=0,
            moments=0,
            activations=alive - attention.peak_memory_bytes if alive > attention.peak_memory_bytes else 0,
            attention=attention.peak_memory_bytes,
            peak=weights + cast + alive,
        )
    saved = len(config.depth_order) * _saved_by_layer(config, tokens, half=half, device=device) + 12 * rows
    # Its output and log-sum-exp are among what the layers save.
    beyond = max(0, attention.peak_memory_bytes - rows * size)
    gradients = weights
    table = 4 * config.vocab_size * config.embedding_width
    # Activations go as gradients come: the peak is at the first layer that goes back, or when all are there.
    transient = max(beyond, 2 * inner * size)
    peak = weights * 3 + cast + max(saved + transient, gradients + table, saved // 2 + gradients // 2 + transient)
    return Memory(
        weights=weights,
        gradients=gradients,
        moments=2 * weights,
        activations=saved,
        attention=attention.peak_memory_bytes,
        peak=peak,
    )


def _saved_by_layer(config: TransformerConfig, tokens: int, *, half: bool, device: str) -> int:
    """What autograd keeps of a layer: inputs of the matrices, of the norms and of the activation, and dropout's noise.

    In half precision every matrix keeps a copy of its input in it, queries, keys and values one each; sums and the
    inputs of norms are in float32.
    """
    m, f, h = config.width, config.feed_forward_width, config.n_heads
    size = 2 if half else 4
    noise = 2 * m * (size if device == "cpu" else 1)  # a GPU keeps a byte for each
    matrices = (3 if half else 1) * m * size + 4 * m * size + m * size + 2 * f * size
    return tokens * (matrices + noise + 2 * m * 4 + h * 4)


def _warnings(config: TransformerConfig, longest: int) -> tuple[str, ...]:
    if longest <= config.max_length:
        return ()
    warning = (
        f"This model was trained for {config.max_length:,} positions and cannot run at {longest:,} tokens: the figures "
        f"are those of the same encoder with more positions. Cut the texts to {config.max_length:,} tokens "
        "(--max-length), split them into parts, or choose a model with more positions."
    )
    return (warning,)


def plan_summary(found: EncoderPlan) -> RenderableType:
    """The plan for a terminal."""
    attention, total = found.attention, sum(found.flops.values())
    tokens, n = sum(found.lengths), len(found.lengths)
    what = "a training step" if found.training else "a pass without gradients"
    head = f"{found.model}: {found.family}, {found.layers} layers; {what} with {n:,} × up to {max(found.lengths):,}"
    memory, size = found.memory, wording.size
    rows = {
        "attention": f"kernel {attention.kernel}"
        + (f" in blocks of {attention.block[0]} × {attention.block[1]}" if attention.block else "")
        + f", {attention.precision}",
        "one layer's attention": f"{size(attention.peak_memory_bytes)} beyond q, k, v "
        f"(one n² map would be {size(attention.map_bytes)}), {size(attention.moved_bytes)} moved at least",
        "arithmetic": f"{total / 1e12:,.3g} TFLOP: "
        + ", ".join(f"{name.replace('_', '-')} {count / total:.0%}" for name, count in found.flops.items()),
        "weights": size(memory.weights)
        + (f", gradients {size(memory.gradients)}, Adam {size(memory.moments)}" if found.training else ""),
        "activations": size(memory.activations),
        "peak foreseen": f"{size(memory.peak)} of {size(found.memory_bytes)}: "
        + ("fits" if found.fits else "does not fit"),
    }
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, said in rows.items():
        table.add_row(name, said)
    notes = [*(f"Warning: {warning}" for warning in found.warnings), *attention.reasons, *advice(found)]
    return Group(Text(wording.printable(f"{head} = {tokens:,} tokens")), Text(), table, Text(), *map(Text, notes))


def advice(found: EncoderPlan) -> tuple[str, ...]:
    """What would make it fit; nothing where it does."""
    if found.fits:
        return ()
    said: list[str] = []
    if len(found.lengths) > 1:
        said.append("Halve --batch-tokens: activations and attention take half then.")
    if found.attention.precision == "fp32":
        said.append("Try --precision bf16: activations take about two thirds.")
    if found.training and found.memory.weights * 4 > found.memory_bytes:
        said.append("Weights, gradients and Adam's moments alone do not fit: choose a smaller model.")
    said.append(f"Shorter texts: memory grows with the {sum(found.lengths):,} tokens of a batch.")
    return tuple(said)
