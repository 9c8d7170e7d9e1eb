"""What holds for the project as a whole: the rules that no single module can keep."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from cyclopts import App
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
READMES = ["README.md", "README.zh-CN.md"]
HEAVY = {"torch", "transformers", "sklearn", "scipy", "polars", "numpy"}

# Set-up is whatever changes the machine before Huiyan runs; having the repository comes before set-up.
_SET_UP = re.compile(r"^(make|pip3?|pipx|uv|conda|mamba|poetry|apt(-get)?|brew|npm|sudo|source|\.|export)\s")
_PYTHON_SET_UP = re.compile(r"^(\S*/)?python[\d.]*\s+-m\s+(pip|venv|ensurepip)\b")


def loaded_after(program: str) -> set[str]:
    """Top-level packages in `sys.modules` after a program ran in a fresh interpreter."""
    report = "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def help_of(*command: str) -> str:
    """A program that asks for the help of a command and goes on when it was given."""
    return f"""
import sys
from huiyan.cli.main import main
sys.argv = ["huiyan", *{command!r}, "--help"]
try:
    status = main()
except SystemExit as stop:
    status = stop.code
if status:
    sys.exit(f"--help ended with status {{status}}")
"""


def fenced_blocks(path: Path) -> list[tuple[str, list[str]]]:
    """Language and lines of every fenced code block."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [(language, body.splitlines()) for language, body in found]


def commands(path: Path) -> list[str]:
    """The lines of code a reader would type or run, without prompts, comments and output."""
    lines: list[str] = []
    for language, body in fenced_blocks(path):
        if language == "console":
            lines += [line.removeprefix("$ ") for line in body if line.startswith("$ ")]
        elif language in {"sh", "bash", "shell", "python", "py"}:
            lines += body
    stripped = [re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in lines]
    return [line for line in stripped if line]


def table_rows(path: Path) -> list[list[str]]:
    """The cells of every table row but headings and rules."""
    lines = path.read_text("utf-8").splitlines()
    rules = {number for number, line in enumerate(lines) if re.fullmatch(r"\|[\s:|-]+\|", line) and "-" in line}
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for number, line in enumerate(lines)
        if line.startswith("|") and number not in rules and number + 1 not in rules
    ]


def text_files() -> list[Path]:
    folders = ["src", "tests", "scripts", "docs", "examples", "benchmarks", ".ci"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return [path for path in files if "__pycache__" not in path.parts and b"\0" not in path.read_bytes()[:8192]]


def test_importing_huiyan_loads_nothing_heavy():
    assert "huiyan" in loaded_after("import huiyan")
    assert loaded_after("import huiyan").isdisjoint(HEAVY)


def test_the_check_of_what_is_loaded_would_see_torch():
    assert "numpy" in loaded_after("import numpy")


def test_help_loads_nothing_heavy():
    assert loaded_after(help_of()).isdisjoint(HEAVY)


def command_paths() -> list[tuple[str, ...]]:
    """Every command with its words: `("models",)`, `("models", "fetch")`."""
    from huiyan.cli.main import app  # here: the other tests do not need the commands

    paths: list[tuple[str, ...]] = []
    todo = [(name,) for name in app]
    while todo:
        path = todo.pop(0)
        if not path[-1].startswith("-"):
            paths.append(path)
            todo += [(*path, name) for name in command_at(path)]
    return paths


def command_at(path: tuple[str, ...]) -> App:
    from huiyan.cli.main import app

    command = app
    for name in path:
        command = command[name]
    return command


def silent_parts(path: tuple[str, ...]) -> list[str]:
    """What a command does not describe: itself, or options of it."""
    command = command_at(path)
    silent = [] if str(command.help or "").strip() else [" ".join(path)]
    if command.default_command is not None:
        silent += [
            f"{' '.join(path)} {argument.name}"
            for argument in command.assemble_argument_collection(parse_docstring=True)
            if argument.show and not str(argument.parameter.help or "").strip()
        ]
    return silent


def test_every_command_is_described_without_loading_anything_heavy():
    paths = command_paths()
    assert {("train",), ("predict",), ("evaluate",), ("models",), ("models", "fetch")} <= set(paths)
    program = "".join(help_of(*path) for path in paths)
    assert loaded_after(program).isdisjoint(HEAVY)


def test_every_command_and_every_option_has_help():
    assert [part for path in command_paths() for part in silent_parts(path)] == []


def test_every_command_is_named_in_the_readme_or_the_documentation():
    pages = [ROOT / readme for readme in READMES] + sorted((ROOT / "docs").rglob("*.md"))
    text = "\n".join(page.read_text("utf-8") for page in pages if page.name != "evidence.md")
    assert [path for path in command_paths() if f"huiyan {' '.join(path)}" not in text] == []


@pytest.mark.parametrize("readme", READMES)
def test_set_up_is_exactly_two_commands(readme: str):
    lines = commands(ROOT / readme)
    set_up = {line for line in lines if _SET_UP.match(line) or _PYTHON_SET_UP.match(line)}
    assert set_up == {"make quickstart", "make test"}


def test_both_readmes_hold_the_same_commands():
    english, chinese = (commands(ROOT / readme) for readme in READMES)
    assert english == chinese


def test_no_file_names_a_place_on_somebodys_machine():
    # Written so that this file does not match itself.
    place = re.compile(r"(?<![\w.:/])/(?:root|work|(?:home|Users)/\w+|tmp/\w)/|\b[A-Z]:\\Users\\")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in text_files()
        for match in place.finditer(path.read_text("utf-8", errors="replace"))
    ]
    assert found == []


def test_every_promise_has_its_evidence():
    rows = table_rows(ROOT / "docs" / "evidence.md")
    assert rows
    assert [row for row in rows if not all(row)] == []


def test_the_evidence_exists():
    evidence = (ROOT / "docs" / "evidence.md").read_text("utf-8")
    named = re.findall(r"`((?:tests|benchmarks|examples|scripts|docs|src)/[^`:\s]*)(?:::(\w+))?", evidence)
    assert named
    lost = [
        f"{path}::{test}" if test else path
        for path, test in named
        if not (ROOT / path).exists() or (test and not re.search(rf"\b{test}\b", (ROOT / path).read_text("utf-8")))
    ]
    assert lost == []


def contract(name_part: str) -> dict[str, list[str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    [found] = [one for one in contracts if name_part in one["name"]]
    return found


@pytest.mark.parametrize(
    ("name_part", "free"), [("web framework", {"cli", "apps", "serving"}), ("transformers", {"bridge"})]
)
def test_every_room_is_under_the_contracts_that_forbid_imports(name_part: str, free: set[str]):
    rooms = {path.parent.name for path in (ROOT / "src" / "huiyan").glob("*/__init__.py")}
    assert {f"huiyan.{room}" for room in rooms - free} == set(contract(name_part)["source_modules"])


def installed_with_extras() -> set[str]:
    todo = [("huiyan", frozenset({"all", "test", "docs"}))]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for requirement in map(Requirement, distribution(name).requires or []):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {name for name, _ in done} - {"huiyan"}


def test_the_constraints_pin_everything_that_is_installed():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    # torch pins its own CUDA libraries, and triton, exactly.
    names = {name for name in installed_with_extras() if not re.match(r"nvidia-|cuda-|triton$", name)}
    assert {name: pins.get(name) for name in names} == {name: version(name).partition("+")[0] for name in names}
