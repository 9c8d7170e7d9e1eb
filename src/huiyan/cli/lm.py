"""`huiyan lm`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from huiyan.cli.json_file import check_json
from huiyan.core.errors import ConfigError, SourceError
from huiyan.core.files import write_json
from huiyan.workflows.config import DEFAULT_WRITING, WritingConfig
from huiyan.workflows.language.config import (
    DEFAULT_READING,
    LanguageOptions,
    LanguageRun,
    LanguageTrainingConfig,
    ReadingConfig,
    TextConfig,
)

app = cyclopts.App(
    name="lm",
    help="Language models: learn one from plain text, measure it, see what surprises it, let it write.",
    default_parameter=Parameter(negative=()),
)
MOST_BYTES = 1 << 26
"""Of a file whose text is scored or gone on with."""
DEFAULT_TEXT, DEFAULT_OPTIONS, DEFAULT_TRAINING = TextConfig(), LanguageOptions(), LanguageTrainingConfig()


@app.command
def train(
    *texts: str,
    out: str,
    preset: str | None = None,
    text: Annotated[TextConfig, Parameter(name="*", group="Text")] = DEFAULT_TEXT,
    model: Annotated[LanguageOptions, Parameter(name="*", group="Model")] = DEFAULT_OPTIONS,
    training: Annotated[LanguageTrainingConfig, Parameter(name="*", group="Training")] = DEFAULT_TRAINING,
    resume: bool = False,
    overwrite: bool = False,
    json: Path | None = None,
) -> int:
    """Learn a language model from plain text: Transformer-XL, a Transformer or an LSTM; or pretrain an encoder (mlm).

    Text of any size: its tokens are kept on disk. Under torchrun several processes train one model. Options can also
    come from a YAML file (--config FILE) and from the environment (HUIYAN_LM_TRAIN_EPOCHS=3).

    Args:
        texts: Files of plain text, also packed with gzip or zstd, in order.
        out: Folder for the model and the report.
        preset: Begin from a set of options: tiny, small, or one of the paper's: enwik8-base, enwik8-large, text8-base,
            text8-large, wt103-base, wt103-large, lm1b-base, lm1b-large. Options given beside it count more.
        text: What a token is.
        model: Which model.
        training: How it is trained.
        resume: Go on with the run in --out from its last checkpoint.
        overwrite: Replace the run in --out.
        json: Also write the report as JSON to this file.
    """
    from huiyan.training.progress import progress_for
    from huiyan.workflows.language.report import terminal_summary
    from huiyan.workflows.language.train import train_language_model

    del preset  # its options stand among the others already
    check_json(json)
    run = LanguageRun(texts=texts, out=out, text=text, model=model, training=training)
    reporter = progress_for(Console(stderr=True))
    report = train_language_model(run, reporter=reporter, resume=resume, overwrite=overwrite)
    if report is None:
        reporter.note(f"Interrupted. {out} holds the best model so far; the same command with --resume goes on.")
        return 130
    if report["sample"] is None:  # of several processes the first one tells
        return 0
    if json is not None:
        write_json(json, report)
    Console().print(terminal_summary(report))
    reporter.note(f"\nModel, report.html and model card: {out}")
    return 0


@app.command
def evaluate(
    model: Path,
    /,
    *texts: str,
    reading: Annotated[ReadingConfig, Parameter(name="*", group="Reading")] = DEFAULT_READING,
    json: Path | None = None,
) -> None:
    """Measure a language model on unseen text: bits a character and byte, perplexity, or hidden tokens guessed.

    Options can also come from a YAML file (--config FILE) and from the environment (HUIYAN_LM_EVALUATE_STREAMS=1).

    Args:
        model: Folder of a language model.
        texts: Files of plain text, read as one.
        reading: How the text is read.
        json: Also write the figures as JSON to this file.
    """
    from huiyan.workflows.language.evaluate import evaluate_language_model
    from huiyan.workflows.language.report import figures_table

    if not texts:
        raise ConfigError("There is no text to measure on.", hint="For example: huiyan lm evaluate MODEL held-out.txt")
    check_json(json)
    console = Console(stderr=True)
    found = evaluate_language_model(
        model, texts, reading, note=lambda text: console.print(text, markup=False, highlight=False)
    )
    if json is not None:
        write_json(json, found)
    Console().print(figures_table({"test": found["test"]}))


@app.command
def score(
    model: Path,
    /,
    *texts: str,
    file: Path | None = None,
    png: Path | None = None,
    device: Annotated[str, Parameter(group="Computing")] = "auto",
    json: bool = False,
) -> None:
    """Show what surprises a language model in a text: each part on a colour, the redder the more bits.

    Options can also come from a YAML file (--config FILE) and from the environment (HUIYAN_LM_SCORE_DEVICE=cpu).

    Args:
        model: Folder of a language model.
        texts: The text. Put -- before it where it begins with a hyphen.
        file: Read the text from this file; - is standard input.
        png: Also draw it into this file.
        device: auto, cpu, cuda, cuda:N or mps.
        json: Print the bits of every part as JSON instead.
    """
    import json as json_module

    from huiyan.workflows.language.score import score_text

    given = [*texts, *([_text_of(file)] if file is not None else [])]
    if len(given) != 1:
        raise ConfigError(f"One text is scored at a time. Got {len(given)}.", hint="Put it in quotes.")
    found = score_text(model, given[0], device=device)
    if json:
        _say(json_module.dumps(found.to_dict(), ensure_ascii=False) + "\n")
        return
    from huiyan.workflows.language.score_picture import save_png, terminal_picture

    Console().print(terminal_picture(found))
    if found.n_unknown:
        told = f"note: {found.n_unknown} of {found.n_tokens} tokens are unknown to the model; their bits tell nothing"
        Console(stderr=True).print(told, markup=False, highlight=False)
    if png is not None:
        for remark in save_png(found, png):
            Console(stderr=True).print(f"note: {remark}", markup=False)
        Console(stderr=True).print(f"Picture: {png}", markup=False)


@app.command
def generate(
    model: Path,
    /,
    *texts: str,
    file: Path | None = None,
    turns: bool = False,
    stop: tuple[str, ...] = (),
    writing: Annotated[WritingConfig, Parameter(name="*", group="Writing")] = DEFAULT_WRITING,
    device: Annotated[str, Parameter(group="Computing")] = "auto",
    precision: Annotated[str, Parameter(group="Computing")] = "auto",
    json: bool = False,
) -> None:
    """Write what follows on a text, or what a translator or summariser makes of it; a single text as it is written.

    Options can also come from a YAML file (--config FILE) and from the environment (HUIYAN_LM_GENERATE_TOP_K=5).

    Args:
        model: Folder of a language model: config.json, safetensors and the files of its tokenizer.
        texts: What to go on with. Put -- before them where one begins with a hyphen.
        file: Read further texts from this file, one a line; - is standard input.
        turns: Write by turns: each line of standard input is added to the text, and gone on with. What was read before
            is remembered.
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
    if turns:
        if file is not None or json or len(given) > 1:
            raise ConfigError("--turns takes one text at most, and no --file and no --json.", hint="Leave them away.")
        _take_turns(TextWriter.load(model, device=device, precision=precision, **writing.options()), given, stop)
        return
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


def _take_turns(writer: Any, first: list[str], stop: tuple[str, ...]) -> None:
    session, watched = writer.session(), sys.stdin.isatty()
    lines = iter(first)
    while True:
        line = next(lines, None)
        if line is None:
            if watched:
                _say("> ")
            line = sys.stdin.readline()
            if not line:
                return
            line = line.removesuffix("\n")
        # A turn after the first begins a line of its own.
        for piece in session.go_on(f"\n{line}" if session.tokens else line, stops=stop):
            _say(piece)
        _say("\n")


def _lines(path: Path) -> list[str]:
    return _text_of(path).removesuffix("\n").split("\n")


def _text_of(path: Path) -> str:
    """The text of a file, with line feeds as its ends of lines."""
    try:
        data = sys.stdin.buffer.read(MOST_BYTES + 1) if str(path) == "-" else _first_bytes(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MOST_BYTES:
        raise SourceError(f"{path} has more than {MOST_BYTES:,} bytes.", hint="Give it in parts.")
    from huiyan.data.encodings import SAMPLE_BYTES, guess_encoding

    name = guess_encoding(data[:SAMPLE_BYTES]).name
    try:
        text = data.decode("utf-8-sig" if name == "utf-8" else name)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} looks like {name}, and byte {error.start} is no text in it.", hint="Save the file as UTF-8."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
