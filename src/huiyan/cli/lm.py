"""`huiyan lm`."""

import sys
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from huiyan.core.errors import ConfigError, SourceError
from huiyan.workflows.config import DEFAULT_WRITING, WritingConfig

app = cyclopts.App(
    name="lm",
    help="Let a language model write: go on with a text, translate, sum up.",
    default_parameter=Parameter(negative=()),
)


@app.command
def generate(
    model: Path,
    /,
    *texts: str,
    file: Path | None = None,
    stop: tuple[str, ...] = (),
    writing: Annotated[WritingConfig, Parameter(name="*", group="Writing")] = DEFAULT_WRITING,
    device: Annotated[str, Parameter(group="Computing")] = "auto",
    precision: Annotated[str, Parameter(group="Computing")] = "auto",
    json: bool = False,
) -> None:
    """Write what follows on a text, or what a translator or summariser makes of it; a single text as it is written.

    Args:
        model: Folder of a language model: config.json, safetensors and the files of its tokenizer.
        texts: What to go on with. Put -- before them where one begins with a hyphen.
        file: Read further texts from this file, one a line; - is standard input.
        stop: End before this text; may be given several times.
        writing: How the model writes.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16; auto is bf16 where the machine multiplies it.
        json: Print one JSON object for each text written, its prompt beside it; without it what is written comes a
            text after the other, in the order of the prompts.
    """
    import json as json_module

    from huiyan.workflows.writing import TextWriter

    given = [*texts, *(_lines(file) if file is not None else [])]
    if not given:
        raise ConfigError("There is no text to go on with.", hint='For example: huiyan lm generate MODEL "Once upon"')
    writer = TextWriter.load(model, device=device, precision=precision, **writing.options())
    if len(given) == 1 and not json and writer.config.n_beams == 1:
        for piece in writer.stream(given[0], stops=stop):
            _say(piece)
        _say("\n")
        return
    for text, written in writer.write_each(given, stops=stop):
        for one in written:
            found = {"prompt": text, **vars(one)}
            _say((json_module.dumps(found, ensure_ascii=False) if json else one.text) + "\n")


def _lines(path: Path) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    from huiyan.data.encodings import SAMPLE_BYTES, guess_encoding

    name = guess_encoding(data[:SAMPLE_BYTES]).name
    try:
        text = data.decode("utf-8-sig" if name == "utf-8" else name)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} looks like {name}, and byte {error.start} is no text in it.", hint="Save the file as UTF-8."
        ) from error
    return text.splitlines()


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
