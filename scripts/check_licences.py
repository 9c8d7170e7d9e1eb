"""Check the licence of everything that ``pip install huiyan[all]`` brings, from the metadata that is installed.

Permissive licences pass, MPL-2.0 (a file-by-file copyleft) and runtimes under the GCC exception too. LGPL, GPL, AGPL
and terms that restrict use are refused. What cannot be recognised is refused as well, unless `LISTED` gives the reason.
Test and documentation tools are not in question: nobody receives them from us.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# SPDX identifiers, lower case.
PERMITTED = frozenset(
    """
    0bsd apache-2.0 blueoak-1.0.0 bsd-2-clause bsd-3-clause bsl-1.0 cc0-1.0 cnri-python hpnd isc mit mit-0 mit-cmu
    mpl-2.0 ncsa psf-2.0 python-2.0 unicode-3.0 unicode-dfs-2016 unlicense zlib zpl-2.1
    """.split()  # noqa: SIM905 - two lines of words read better than a column of quotes
)

# An exception that makes a licence harmless which would be refused without it; others change nothing.
FREEING_EXCEPTIONS = frozenset({"gcc-exception-2.0", "gcc-exception-3.1"})

# How metadata older than PEP 639 says it: in the License field and in classifiers. Lower case.
OLD_NAMES = {
    "apache": "apache-2.0",
    "apache 2": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "apache 2.0 license": "apache-2.0",
    "apache license": "apache-2.0",
    "apache license 2.0": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "apache software license": "apache-2.0",
    "boost software license 1.0 (bsl-1.0)": "bsl-1.0",
    "bsd": "bsd-3-clause",
    "bsd license": "bsd-3-clause",
    "bsd 2-clause license": "bsd-2-clause",
    "3-clause bsd license": "bsd-3-clause",
    "bsd 3-clause license": "bsd-3-clause",
    "cc0 1.0 universal (cc0 1.0) public domain dedication": "cc0-1.0",
    "historical permission notice and disclaimer (hpnd)": "hpnd",
    "isc license": "isc",
    "isc license (iscl)": "isc",
    "mit license": "mit",
    "mozilla public license 2.0 (mpl 2.0)": "mpl-2.0",
    "python software foundation license": "psf-2.0",
    "the unlicense (unlicense)": "unlicense",
    "zlib/libpng license": "zlib",
}

# Packages whose metadata cannot be judged, with the reason why they may come all the same.
LISTED = {
    "nvidia-*": "NVIDIA's CUDA libraries: terms of their own that permit use and redistribution; with CUDA torch only",
    "cuda-*": "NVIDIA's CUDA bindings: terms of their own that permit use and redistribution; with CUDA torch only",
}

_COPYLEFT = re.compile(
    r"gpl|general public licen[sc]e|affero|sspl|server side public|eupl|osl-3|cc-by-sa", re.IGNORECASE
)
_RESTRICTED = re.compile(
    r"non-?\s?commercial|commons clause|by-nc|business source|\bbusl\b|research (use|purposes?) only|elastic-2",
    re.IGNORECASE,
)
# In a whole text: the GPL, quoted in full for a runtime library, speaks of "noncommercial distribution" itself.
_RESTRICTED_TEXT = re.compile(
    r"non-?\s?commercial\s+(use|purpose)|commons clause|research (use|purposes?) only", re.IGNORECASE
)


class Standing(Enum):
    """What a licence statement comes to."""

    PERMITTED = "permitted"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """The standing of a package and the statement that decided it."""

    standing: Standing
    statement: str


def judge(expression: str | None, field: str | None, classifiers: Iterable[str]) -> Verdict:
    """Judge a package by what its metadata says, worst statement first.

    Args:
        expression: `License-Expression`, an SPDX expression (PEP 639).
        field: `License`, free text: a name or the whole text.
        classifiers: all trove classifiers; those that begin with `License ::` count.
    Returns:
        Refused if any statement is; permitted if one is and none is doubtful; unknown otherwise.
    """
    verdicts: list[Verdict] = []
    if expression and expression.strip():
        verdicts.append(Verdict(judge_expression(expression), expression))
    verdicts.extend(
        Verdict(judge_name(classifier.rpartition(" :: ")[2]), classifier)
        for classifier in classifiers
        if classifier.startswith("License ::") and not classifier.endswith(("OSI Approved", "DFSG approved"))
    )
    first_line = next(iter((field or "").strip().splitlines()), "").strip()
    if first_line and first_line.upper() != "UNKNOWN":
        standing = Standing.REFUSED if _RESTRICTED_TEXT.search(field or "") else judge_name(first_line)
        # A whole text begins with a copyright line: no name, and no contradiction of the other statements either.
        if standing is not Standing.UNKNOWN or not verdicts:
            verdicts.append(Verdict(standing, first_line))
    for standing in (Standing.REFUSED, Standing.UNKNOWN, Standing.PERMITTED):
        for verdict in verdicts:
            if verdict.standing is standing:
                return verdict
    return Verdict(Standing.UNKNOWN, "no licence stated")


def judge_name(name: str) -> Standing:
    """Judge a licence by a name as older metadata gives it, or by an SPDX expression in its place."""
    known = OLD_NAMES.get(name.strip().lower())
    return Standing.PERMITTED if known in PERMITTED else judge_expression(name)


def judge_expression(expression: str) -> Standing:
    """Judge an SPDX expression: of `AND` the worst part counts, of `OR` the best, and `AND` binds closer."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.lower())
    standing = _alternatives(tokens)
    if standing is None or tokens:  # words remain: no expression, so a refused word anywhere decides
        refused = _COPYLEFT.search(expression) or _RESTRICTED.search(expression)
        return Standing.REFUSED if refused else Standing.UNKNOWN
    return standing


_ORDER = [Standing.PERMITTED, Standing.UNKNOWN, Standing.REFUSED]


def _alternatives(tokens: list[str]) -> Standing | None:
    best = _conjunction(tokens)
    while best is not None and tokens[:1] == ["or"]:
        del tokens[0]
        other = _conjunction(tokens)
        best = None if other is None else min(best, other, key=_ORDER.index)
    return best


def _conjunction(tokens: list[str]) -> Standing | None:
    worst = _term(tokens)
    while worst is not None and tokens[:1] == ["and"]:
        del tokens[0]
        other = _term(tokens)
        worst = None if other is None else max(worst, other, key=_ORDER.index)
    return worst


def _term(tokens: list[str]) -> Standing | None:
    if not tokens or tokens[0] in {")", "and", "or", "with"}:
        return None
    token = tokens.pop(0)
    if token == "(":
        inner = _alternatives(tokens)
        if inner is None or tokens[:1] != [")"]:
            return None
        del tokens[0]
        return inner
    exception = ""
    if tokens[:1] == ["with"]:
        exception = tokens[1] if len(tokens) > 1 else ""
        del tokens[:2]
        if not re.fullmatch(r"[a-z0-9.\-]+", exception):
            return None
    if token in PERMITTED:
        return Standing.PERMITTED
    if _COPYLEFT.search(token):
        freed = exception in FREEING_EXCEPTIONS and token.startswith("gpl-")
        return Standing.PERMITTED if freed else Standing.REFUSED
    return Standing.REFUSED if _RESTRICTED.search(token) else Standing.UNKNOWN


def listed_reason(name: str, listed: Mapping[str, str] = LISTED) -> str | None:
    """The reason why a package of unknown licence may come, or None."""
    return next((reason for pattern, reason in listed.items() if fnmatchcase(name, pattern)), None)


def closure(root: str, extras: Iterable[str]) -> tuple[set[str], set[str]]:
    """Everything that installing a package brings on this machine: names installed, names missing."""
    installed: set[str] = set()
    missing: set[str] = set()
    todo = [(str(canonicalize_name(root)), frozenset(extras))]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            missing.add(name)
            continue
        installed.add(name)
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *wanted}):
                todo.append((str(canonicalize_name(requirement.name)), frozenset(requirement.extras)))
    return installed, missing


def stated(name: str, key: str) -> list[str]:
    """All values of one key in the metadata of an installed package; none if it is not there."""
    return distribution(name).metadata.get_all(key) or []


def main() -> int:
    """Check the installed closure and print what is wrong, a line a package."""
    installed, missing = closure("huiyan", {"all"})
    problems = [f"{name}: not installed, so its licence cannot be read" for name in sorted(missing)]
    for name in sorted(installed):
        verdict = judge(
            next(iter(stated(name, "License-Expression")), None),
            next(iter(stated(name, "License")), None),
            stated(name, "Classifier"),
        )
        if verdict.standing is Standing.REFUSED:
            problems.append(f"{name}: refused: {verdict.statement}")
        elif verdict.standing is Standing.UNKNOWN and listed_reason(name) is None:
            problems.append(
                f"{name}: unknown: {verdict.statement}. Read it; then list it with its reason in {__file__}"
            )
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"Licences of {len(installed)} packages checked, {len(problems)} refused.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
