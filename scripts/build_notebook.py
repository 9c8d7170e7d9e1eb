"""Run the cells of examples/attention_notebook.py and write them with what they show: python scripts/build_notebook.py.

The notebook is a built file: cells are written and reviewed as Python, and no output is older than its cell. Jupyter is
not needed for it; running the notebook in Jupyter gives the same.
"""

import ast
import io
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples"
SOURCE, NOTEBOOK = EXAMPLES / "attention_notebook.py", EXAMPLES / "attention.ipynb"

_MARKER = re.compile(r"^# %%(?P<kind> \[markdown\])?\n", re.MULTILINE)
_NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_ROUNDING = 1e-6  # what two machines may differ by, where a number is that small


def cells(source: str) -> Iterator[tuple[str, str]]:
    """Kind ("markdown" or "code") and text of each cell; what stands before the first marker is no cell."""
    parts = _MARKER.split(source)
    for kind, text in zip(parts[1::2], parts[2::2], strict=True):
        if kind:
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.strip().split("\n"))
        else:
            yield "code", text.strip()


def build(source: str) -> dict[str, Any]:
    """The notebook with its outputs, as nbformat 4.5 has it."""
    found: list[dict[str, Any]] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    sys.path.insert(0, str(EXAMPLES))  # where Jupyter runs a notebook: in its own folder
    try:
        for number, (kind, text) in enumerate(cells(source), start=1):
            cell = {"cell_type": kind, "id": f"cell-{number:02}", "metadata": {}, "source": _lines(text)}
            if kind == "code":
                count = sum(one["cell_type"] == "code" for one in found) + 1
                cell |= {"execution_count": count, "outputs": _run(text, names, count)}
            found.append(cell)
    finally:
        sys.path.remove(str(EXAMPLES))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": found, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _run(text: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run one cell: what it prints, and the value of the expression it ends with."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), names)  # noqa: S102 - the cells are ours
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names)  # noqa: S307
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_svg_"):
            data["image/svg+xml"] = _lines(value._repr_svg_())
        outputs.append({"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def as_text(notebook: dict[str, Any]) -> str:
    """The text of the file."""
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def equal_but_for_rounding(one: str, other: str) -> bool:
    """Whether two texts differ, blanks aside, in no more than the last digit of numbers with decimals.

    Numbers below a millionth, such as the difference of two kernels, are all alike.
    """
    if [*_words(one)] != [*_words(other)]:
        return False
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return all(_close(left, right) for left, right in pairs)


def _words(text: str) -> Iterator[str]:
    return (" ".join(part.split()) for part in _NUMBER.split(text))


def _close(one: str, other: str) -> bool:
    left, right = (float(text.replace(",", "").replace("−", "-")) for text in (one, other))
    if max(abs(left), abs(right)) < _ROUNDING:
        return True
    digits = max(len(text.partition("e")[0].partition(".")[2]) for text in (one, other))
    return left == right or (digits > 0 and math.isclose(left, right, rel_tol=0, abs_tol=1.01 * 10.0**-digits))


def main() -> None:
    NOTEBOOK.write_text(as_text(build(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
