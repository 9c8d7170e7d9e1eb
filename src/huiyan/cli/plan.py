"""`huiyan plan`."""

from pathlib import Path

from rich.console import Console

from huiyan.cli.json_file import check_json
from huiyan.core.config import require
from huiyan.core.files import write_json


def plan(
    *,
    length: list[int],
    model: str = "auto",
    training: bool = False,
    dropout: float = 0.0,
    batch_tokens: int = 2048,
    precision: str = "auto",
    device: str = "auto",
    memory: float | None = None,
    json: Path | None = None,
) -> None:
    """Say what a model will take at some lengths before it runs: kernel, arithmetic, memory, and why.

    Args:
        length: Tokens of a text; give it several times for a batch of several lengths.
        model: auto, package:NAME (see `huiyan models`), a folder, or OWNER/NAME on the hub; only its config is read.
        training: Foresee a training step, with gradients and AdamW.
        dropout: Dropout of the attention weights, as if the model had it.
        batch_tokens: Tokens in a batch; it holds the lengths as often as they fit.
        precision: auto, fp32, bf16 or fp16.
        device: auto, cpu, cuda, cuda:N or mps; with --memory and --precision it need not be on this machine.
        memory: GB of the device; what it has in all when not given.
        json: Also write the plan as JSON to this file.
    """
    from huiyan.workflows.foresight import foresee, plan_summary

    check_json(json)
    require(memory is None or memory > 0, "memory", "above 0, in GB", memory)
    found = foresee(
        model,
        length,
        batch_tokens=batch_tokens,
        training=training,
        dropout=dropout,
        precision=precision,
        device=device,
        memory_bytes=None if memory is None else int(memory * 1e9),
    )
    if json is not None:
        write_json(json, found.to_dict())
    Console().print(plan_summary(found))
