"""What `attention.py` measured, as claims, as tables and as a figure: numbers in, words out."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attention_figure import draw

SHORTEST = 512  # claims are about the lengths of the table; --n may measure others
KEY = ("engine", "variant", "dtype", "mode", "n")
VARIANTS = {
    "plain": "plain",
    "causal": "causal",
    "alibi": "ALiBi",
    "t5": "T5 bias, learned",
    "xl": "XL-relative",
    "dropout": "dropout 0.1",
    "window": "window, 128 a side",
}
ENGINES = {
    "huiyan": "**Huiyan**",
    "sdpa": "SDPA",
    "x-transformers": "x-transformers",
    "flex": "FlexAttention",
    "oracle": "the formula",
    "huiyan-module": "**`MultiHeadAttention`**",
    "torch-module": "`nn.MultiheadAttention`",
    "torch-module-weights": "`nn.MultiheadAttention`, with weights",
}
MODES = {"forward": "forward", "both": "forward and backward"}
END = "<!-- end -->"
Cell = Mapping[str, Any]


def order(cell: Cell) -> tuple[int, ...]:
    """Where a cell stands in the file."""
    ranks = [
        list(names).index(cell[key]) for key, names in (("variant", VARIANTS), ("mode", MODES), ("engine", ENGINES))
    ]
    return (("fp32", "bf16").index(cell["dtype"]), *ranks, cell["n"])


def ratios(
    cells: Iterable[Cell], numerator: str, denominator: str, *, variant: str, dtype: str, mode: str
) -> dict[int, float]:
    """By length: the median over the rounds of the ratio of two engines' times within a round."""
    runs: dict[str, dict[int, dict[int, float]]] = {numerator: {}, denominator: {}}
    for one in cells:
        chosen = (one["variant"], one["dtype"], one["mode"]) == (variant, dtype, mode)
        if chosen and one["engine"] in runs and one["how"] == "measured":
            runs[one["engine"]][one["n"]] = {run["round"]: run["seconds"] for run in one["runs"]}
    found = {}
    for n in sorted(runs[numerator].keys() & runs[denominator].keys()):
        above, below = runs[numerator][n], runs[denominator][n]
        found[n] = statistics.median(above[turn] / below[turn] for turn in above.keys() & below.keys())
    return found


def exponent(points: Mapping[int, float]) -> float | None:
    """The slope of log y over log n by least squares; None with fewer than two points above 0."""
    pairs = [(math.log(n), math.log(y)) for n, y in points.items() if y > 0]
    if len(pairs) < 2:
        return None
    middle = statistics.fmean(x for x, _ in pairs), statistics.fmean(y for _, y in pairs)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in pairs) / sum((x - middle[0]) ** 2 for x, _ in pairs)


def series(
    cells: Iterable[Cell], field: str, *, engine: str, variant: str, dtype: str, mode: str, least: int = 0
) -> dict[int, float]:
    """By length: one field of what was measured, from a least length on."""
    return {
        one["n"]: one[field]
        for one in cells
        if (one["engine"], one["variant"], one["dtype"], one["mode"]) == (engine, variant, dtype, mode)
        and one["how"] == "measured"
        and one["n"] >= least
    }


def claims(cells: Sequence[Cell], agreement: Sequence[Mapping[str, Any]], device: str) -> list[dict[str, Any]]:
    """Every claim with what was measured, what was wanted and whether it holds (None: not measured)."""
    found = [_agrees(agreement)]
    if device == "cpu":
        for dtype in ("fp32", "bf16"):
            found += _against_sdpa(cells, dtype)
        found.append(_learned_bias_at_32k(cells))
    else:
        for dtype in ("fp32", "bf16"):
            speeds = _all_ratios(cells, "flex", "huiyan", dtype, {v: tuple(MODES) for v in ("alibi", "t5", "xl")})
            found.append(
                _claim(f"{dtype}: speed, ours over hand-written FlexAttention, bias variants", speeds, least=0.9)
            )
    slopes = _slopes(cells, "extra_bytes", tuple(VARIANTS))
    found.append(
        _claim("memory grows as n to the power of, from 4,096 tokens, forward and backward", slopes, most=1.15)
    )
    slopes = _slopes(cells, "seconds", ("window",))
    found.append(_claim("time with a window grows as n to the power of, from 4,096 tokens", slopes, most=1.15))
    return found


def _against_sdpa(cells: Sequence[Cell], dtype: str) -> list[dict[str, Any]]:
    both = tuple(MODES)
    flash = _all_ratios(cells, "huiyan", "sdpa", dtype, dict.fromkeys(("plain", "causal"), both))
    fixed = _all_ratios(cells, "huiyan", "sdpa", dtype, dict.fromkeys(("alibi", "window"), both))
    # Without gradients SDPA reads a learned bias as it reads any mask, in its flash kernel.
    falls_back = _all_ratios(cells, "sdpa", "huiyan", dtype, {"dropout": both, "t5": ("both",)})
    far = {where: value for where, value in falls_back.items() if where[2] >= 4096}
    near = {where: value for where, value in falls_back.items() if where[2] == 1024}
    found = [
        _claim(f"{dtype}: time over SDPA's where it has a flash path (plain, causal)", flash, most=1.4),
        _claim(f"{dtype}: time over SDPA's where it reads a mask of n² numbers (ALiBi, window)", fixed, most=1.4),
        _claim(f"{dtype}: times faster than SDPA where it falls back to n², from 4,096 tokens", far, least=2.0),
        _claim(f"{dtype}: times faster than SDPA where it falls back to n², at 1,024 tokens", near, least=1.0),
    ]
    return [one for one in found if one["value"] is not None or dtype == "fp32"]


Where = tuple[str, str, int]


def _all_ratios(
    cells: Sequence[Cell], above: str, below: str, dtype: str, chosen: Mapping[str, Sequence[str]]
) -> dict[Where, float]:
    return {
        (variant, mode, n): value
        for variant, modes in chosen.items()
        for mode in modes
        for n, value in ratios(cells, above, below, variant=variant, dtype=dtype, mode=mode).items()
        if n >= SHORTEST
    }


def _slopes(cells: Sequence[Cell], field: str, variants: Iterable[str]) -> dict[Where, float]:
    found = {}
    for variant in variants:
        of = {"engine": "huiyan", "variant": variant, "dtype": "fp32", "mode": "both"}
        points = series(cells, field, **of, least=4096)
        slope = exponent(points)
        if slope is not None:
            found[variant, "both", max(points)] = slope
    return found


def _claim(
    words: str, values: Mapping[Where, float], *, most: float | None = None, least: float | None = None
) -> dict[str, Any]:
    """A claim about the worst of some values, each known by variant, mode and length."""
    wanted = f"≤ {most:g}" if most is not None else f"≥ {least:g}"
    if not values:
        return {"claim": words, "measured": "not measured", "wanted": wanted, "value": None, "holds": None}
    variant, mode, n = where = (max if most is not None else min)(values, key=lambda one: values[one])
    value = values[where]
    return {
        "claim": words,
        "measured": f"{value:.2f} ({VARIANTS[variant]}, {MODES[mode]}, n = {n:,}; the worst of {len(values)})",
        "wanted": wanted,
        "value": round(value, 4),
        "holds": value <= most if most is not None else value >= (least or 0.0),
    }


def _agrees(agreement: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ours against the same formula in the same dtype, both held against float64: the kernels' own tolerance."""
    errors = {(one["engine"], one["variant"], one["dtype"]): one["error"] for one in agreement}
    shares = {
        (variant, dtype): math.inf if error is None else max(error - 1e-6, 0.0) / errors["oracle", variant, dtype]
        for (engine, variant, dtype), error in errors.items()
        if engine == "huiyan" and errors.get(("oracle", variant, dtype))
    }
    words = "error against float64, over that of the plain formula in the same dtype"
    if not shares:
        return {"claim": words, "measured": "not measured", "wanted": "≤ 2", "value": None, "holds": None}
    where = max(shares, key=lambda one: shares[one])
    said = f"{shares[where]:.2f} ({VARIANTS[where[0]]}, {where[1]}; the worst of {len(shares)})"
    return {
        "claim": words,
        "measured": said,
        "wanted": "≤ 2",
        "value": round(shares[where], 4),
        "holds": shares[where] <= 2,
    }


def _learned_bias_at_32k(cells: Iterable[Cell]) -> dict[str, Any]:
    here = [
        one for one in cells if (one["variant"], one["dtype"], one["mode"], one["n"]) == ("t5", "fp32", "both", 32768)
    ]
    by_engine = {one["engine"]: one for one in here}
    words, wanted = "32,768 tokens forward and backward with a learned bias: peak of the whole process", "< 3 GB"
    ours = by_engine.get("huiyan", {"how": "left out"})
    if ours["how"] != "measured":
        return {"claim": words, "measured": "not measured", "wanted": wanted, "value": None, "holds": None}
    said = f"{of_bytes(ours['peak_bytes'])}, {of_bytes(ours['extra_bytes'])} of it attention's"
    if by_engine.get("sdpa", {}).get("how") == "extrapolated":
        theirs = by_engine["sdpa"]
        said += f"; SDPA's n² tensors ≈ {of_bytes(theirs['extra_bytes'])}, extrapolated from n = {theirs['from_n']:,}"
    return {
        "claim": words,
        "measured": said,
        "wanted": wanted,
        "value": ours["peak_bytes"],
        "holds": ours["peak_bytes"] < 3e9,
    }


def of_seconds(value: float) -> str:
    if value < 0.0995:
        return f"{value * 1e3:.1f} ms" if value < 0.00995 else f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 9.95 else f"{value:,.0f} s"


def of_bytes(value: float) -> str:
    if value < 999.5e6:
        return f"{value / 1e6:.1f} MB" if value < 9.95e6 else f"{value / 1e6:.0f} MB"
    return f"{value / 1e9:.2f} GB" if value < 9.95e9 else f"{value / 1e9:,.0f} GB"


def in_words(cell: Cell | None) -> str:
    """A cell of the table: time, and memory above the inputs; ≈ is extrapolated, – not measured."""
    if cell is None or cell["how"] == "left out":
        return "–"
    if cell["how"] == "failed":
        return "failed"
    mark = "≈ " if cell["how"] == "extrapolated" else ""
    return f"{mark}{of_seconds(cell['seconds'])}, {of_bytes(cell['extra_bytes'])}"


def line(cell: Cell) -> str:
    """A cell as the run prints it."""
    why = f" ({cell['why']})" if cell["how"] == "failed" else ""
    return (
        f"{cell['variant']:8} {cell['dtype']} {cell['mode']:8} {cell['n']:6} {cell['engine']:22} {in_words(cell)}{why}"
    )


def claim_line(claim: Mapping[str, Any]) -> str:
    """A claim as the run prints it."""
    return f"{_verdict(claim):5} {claim['claim']}: {claim['measured']}, wanted {claim['wanted']}"


def _verdict(claim: Mapping[str, Any]) -> str:
    return {True: "yes", False: "**no**", None: "open"}[claim["holds"]]


def page(results: Mapping[str, Any], picture: str | None = None) -> str:
    """What stands between the two marks of the page."""
    cells = results["cells"]
    parts = [
        _setting(results),
        roofline(results),
        *([f"![Time and peak memory over length]({picture})"] if picture else []),
    ]
    rows = [f"| {one['claim']} | {one['wanted']} | {one['measured']} | {_verdict(one)} |" for one in results["claims"]]
    parts.append("\n".join(["## Claims", "", "| What | Wanted | Measured | Holds |", "|---|---|---|---|", *rows]))
    for dtype in ("fp32", "bf16"):
        for mode, words in MODES.items():
            chosen = [one for one in cells if (one["dtype"], one["mode"]) == (dtype, mode)]
            if chosen:
                parts.append(f"## {dtype}, {words}\n\n{_table(chosen)}")
    return "\n\n".join(parts)


def _setting(results: Mapping[str, Any]) -> str:
    machine, versions, settings = results["machine"], results["versions"], results["settings"]
    where = machine.get("gpu") or f"{machine['processor']}, {settings['threads']} threads"
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Measured on {results['date']}: {where}; {named}; kernel `{settings['kernel']}`."


def roofline(results: Mapping[str, Any]) -> str:
    """What bounds the longest plain cell of both engines, and how much of the machine each of them uses."""
    ceilings = results["ceilings"]
    peak, stream = ceilings["gemm_fp32_gflops"], ceilings["copy_gb_s"]
    said = (
        f"The machine multiplies matrices at {peak:,.0f} GFLOP/s in fp32 and {ceilings['gemm_bf16_gflops']:,.0f} in "
        f"bf16, and copies {stream:,.0f} GB/s: in fp32, work of more than {peak / stream:.0f} FLOP a byte is bound by "
        "arithmetic."
    )
    of = {"variant": "plain", "dtype": "fp32", "mode": "both"}
    speeds = {engine: series(results["cells"], "gflops", engine=engine, **of) for engine in ("huiyan", "sdpa")}
    shared = speeds["huiyan"].keys() & speeds["sdpa"].keys()
    if not shared:
        return said
    n = max(shared)
    intensity = {field: series(results["cells"], field, engine="huiyan", **of)[n] for field in ("gflop", "traffic_mb")}
    density = 1e3 * intensity["gflop"] / intensity["traffic_mb"]
    shares = [f"{name} {speeds[engine][n]:,.0f} GFLOP/s ({speeds[engine][n] / peak:.0%} of the product's)"
              for engine, name in (("huiyan", "Huiyan"), ("sdpa", "SDPA"))]  # fmt: skip
    return (
        f"{said} Plain attention over {n:,} tokens, forward and backward, has {density:,.0f} FLOP for a byte it must "
        f"move, so arithmetic bounds it; of that {' and '.join(shares)} are reached."
    )


def _table(cells: Sequence[Cell]) -> str:
    lengths = sorted({one["n"] for one in cells})
    found = {(one["variant"], one["engine"], one["n"]): one for one in cells}
    rows = [f"| | | {' | '.join(f'{n:,}' for n in lengths)} |", f"|---|---|{'---:|' * len(lengths)}"]
    for variant, name in VARIANTS.items():
        first = name
        for engine, label in ENGINES.items():
            row = [found.get((variant, engine, n)) for n in lengths]
            if any(row):
                rows.append(f"| {first} | {label} | {' | '.join(map(in_words, row))} |")
                first = ""
        for mine, theirs, label in (
            ("huiyan", "sdpa", "time / SDPA's"),
            ("huiyan-module", "torch-module", "time / theirs"),
        ):
            of = {"variant": variant, "dtype": cells[0]["dtype"], "mode": cells[0]["mode"]}
            shares = ratios(cells, mine, theirs, **of)
            if shares:
                rows.append(
                    f"| | *{label}* | {' | '.join(f'*{shares[n]:.2f}*' if n in shares else '' for n in lengths)} |"
                )
    return "\n".join(rows)


def begin(device: str) -> str:
    """The mark after which a page has the tables of a device."""
    return f"<!-- begin: {device}, written by benchmarks/attention.py --table -->"


def write(results: Mapping[str, Any], table: Path | None, figure: Path | None) -> None:
    """Draw the figure; put the tables between the device's marks of the page and leave its prose as it is."""
    if figure:
        figure.parent.mkdir(parents=True, exist_ok=True)
        figure.write_text(draw(results["cells"]), encoding="utf-8")
    if table:
        text, first = table.read_text(encoding="utf-8"), begin(results["machine"]["device"])
        if text.count(first) != 1 or END not in text.split(first)[1]:
            raise SystemExit(f"{table} needs the two marks, each on a line: {first} and {END}")
        picture = f"images/{figure.name if figure else table.stem + '.svg'}"
        drawn = page(results, picture if (table.parent / picture).exists() else None)
        before, _, rest = text.partition(first)
        table.write_text(f"{before}{first}\n\n{drawn}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
