import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[3] / "scripts" / "check_licences.py"
_SPEC = importlib.util.spec_from_file_location("check_licences", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
check_licences = importlib.util.module_from_spec(_SPEC)
sys.modules["check_licences"] = check_licences  # dataclasses look their module up
_SPEC.loader.exec_module(check_licences)

Standing = check_licences.Standing
MIT = "License :: OSI Approved :: MIT License"
GPL = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"


@pytest.mark.parametrize(
    "expression",
    [
        "MIT",
        "mit",
        "MPL-2.0 AND MIT",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-3.0-only WITH GCC-exception-3.1",
        "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
        "GPL-2.0-only OR MIT",
        "MIT OR LicenseRef-Ours",
        "(GPL-2.0-only OR MIT) AND BSD-3-Clause",
    ],
)
def test_permitted_expressions(expression: str):
    assert check_licences.judge_expression(expression) is Standing.PERMITTED


@pytest.mark.parametrize(
    "expression",
    [
        "GPL-3.0-or-later",
        "LGPL-2.1-only",
        "AGPL-3.0-only",
        "MIT AND GPL-2.0-only",
        "MIT OR BSD-3-Clause AND LGPL-3.0-only AND",
        "(MIT AND GPL-2.0-only)",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "LGPL-3.0-only WITH GCC-exception-3.1",
        "GPL-2.0-only OR LGPL-2.1-only",
        "CC-BY-NC-4.0",
        "PolyForm-Noncommercial-1.0.0",
        "SSPL-1.0",
        "BUSL-1.1",
        "MIT with the Commons Clause",
        "GNU Affero General Public License v3",
    ],
)
def test_refused_expressions(expression: str):
    assert check_licences.judge_expression(expression) is Standing.REFUSED


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "MIT AND",
        "AND MIT",
        "(MIT",
        "MIT)",
        "()",
        "MIT MIT",
        "MIT WITH",
        "WITH",
        "MITT",
        "LicenseRef-Ours",
        "MIT, honest",
    ],
)
def test_what_is_not_an_expression_is_unknown(expression: str):
    assert check_licences.judge_expression(expression) is Standing.UNKNOWN


def test_and_binds_closer_than_or():
    assert check_licences.judge_expression("GPL-2.0-only AND MIT OR BSD-3-Clause") is Standing.PERMITTED
    assert check_licences.judge_expression("GPL-2.0-only AND (MIT OR BSD-3-Clause)") is Standing.REFUSED


@pytest.mark.parametrize(
    ("expression", "field", "classifiers", "standing"),
    [
        (None, None, [], Standing.UNKNOWN),
        (None, "UNKNOWN", [], Standing.UNKNOWN),
        (None, "UNKNOWN", [MIT], Standing.PERMITTED),
        ("MPL-2.0 AND MIT", None, [], Standing.PERMITTED),
        (None, "MPL-2.0 AND MIT", [], Standing.PERMITTED),
        (None, "Copyright 2001 Somebody\nGPL with GCC exception for libgfortran", [MIT], Standing.PERMITTED),
        (None, "Copyright 2001 Somebody", [], Standing.UNKNOWN),
        (None, "Apache License\n   Version 2.0, January 2004", [], Standing.PERMITTED),
        ("MIT", None, [GPL], Standing.REFUSED),
        (None, None, [MIT, GPL], Standing.REFUSED),
        (None, "MIT", [GPL], Standing.REFUSED),
        ("MIT", "GNU General Public License v3", [], Standing.REFUSED),
        (None, "MIT License\n\nFor non-commercial use only.", [MIT], Standing.REFUSED),
        ("MIT", None, ["License :: Other/Proprietary License"], Standing.UNKNOWN),
        ("LicenseRef-Ours", None, [MIT], Standing.UNKNOWN),
        (None, None, ["License :: OSI Approved"], Standing.UNKNOWN),
        (None, None, ["License :: DFSG approved", MIT], Standing.PERMITTED),
        (None, None, ["Topic :: GPL tools", MIT], Standing.PERMITTED),
        (None, None, ["License :: Free for non-commercial use"], Standing.REFUSED),
    ],
)
def test_the_worst_statement_decides(expression, field, classifiers, standing):
    assert check_licences.judge(expression, field, classifiers).standing is standing


def test_old_names_all_mean_a_permitted_licence():
    assert set(check_licences.OLD_NAMES.values()) <= check_licences.PERMITTED


def test_a_listed_package_needs_its_own_name():
    listed = {"nvidia-*": "terms of their own"}
    assert check_licences.listed_reason("nvidia-cublas", listed) == "terms of their own"
    assert check_licences.listed_reason("not-nvidia-cublas", listed) is None


def test_the_closure_follows_extras_and_leaves_the_test_tools_out():
    installed, missing = check_licences.closure("huiyan", {"all"})
    assert missing == set()
    assert {"huiyan", "torch", "sympy", "zstandard", "python-calamine"} <= installed
    assert {"pytest", "mkdocs", "transformers", "ruff"}.isdisjoint(installed)
    assert check_licences.closure("no-such-package", ()) == (set(), {"no-such-package"})


def test_a_refused_package_fails_the_check_even_if_listed(monkeypatch, capsys):
    monkeypatch.setattr(check_licences, "closure", lambda root, extras: ({"pytest"}, set()))
    monkeypatch.setattr(check_licences, "LISTED", {"pytest": "no reason helps"})
    verdict = check_licences.Verdict(Standing.REFUSED, "GPL-3.0-only")
    monkeypatch.setattr(check_licences, "judge", lambda *_: verdict)
    assert check_licences.main() == 1
    assert "pytest: refused: GPL-3.0-only" in capsys.readouterr().err
