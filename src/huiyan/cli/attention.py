"""`huiyan attention`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from huiyan.core.errors import ConfigError
from huiyan.workflows.config import DEFAULT_COMPUTE, ComputeConfig


def attention(
    run: Path,
    /,
    *texts: str,
    layer: int | None = None,
    head: int | None = None,
    heads: bool = False,
    png: Path | None = None,
    json: bool = False,
    compute: Annotated[ComputeConfig, Parameter(name="*", group="Computing")] = DEFAULT_COMPUTE,
) -> None:
    """Show what a trained model looks at in a text: one head as a picture, all heads as figures.

    Args:
        run: Folder that `huiyan train` wrote.
        texts: The text; two for a model of text pairs. Put -- before it where it begins with a hyphen.
        layer: Layer to draw, from 0; without, the head that looks at words most sharply is drawn.
        head: Head of that layer, from 0.
        heads: Also list the figures of every head.
        png: Also draw layers × heads, and one head large, into this file.
        json: Print the figures of every head as JSON instead.
        compute: How the model computes.
    """
    from huiyan.workflows.attention import look

    if (layer is None) != (head is None):
        raise ConfigError("--layer and --head go together.", hint="For example: --layer 3 --head 7")
    if len(texts) not in (1, 2):
        raise ConfigError(f"Give one text, or the two of a pair. Got {len(texts)}.")
    looked = look(run, texts[0] if len(texts) == 1 else (texts[0], texts[1]), compute=compute)
    chosen = looked.telling_head() if layer is None or head is None else (layer, head)
    looked.check(*chosen)
    if json:
        import json as json_module

        found = {"answer": looked.answer, "words": looked.words, "heads": looked.statistics()}
        Console(soft_wrap=True).print_json(json_module.dumps(found, ensure_ascii=False))
        return
    from huiyan.workflows.attention_picture import head_table, save_png, terminal_picture

    console = Console()
    console.print(terminal_picture(looked, *chosen, width=console.width))
    if heads:
        console.print()
        console.print(head_table(looked))
    if png is not None:
        for remark in save_png(looked, png, *chosen):
            Console(stderr=True).print(f"note: {remark}", markup=False)
        Console(stderr=True).print(f"Picture: {png}", markup=False)
