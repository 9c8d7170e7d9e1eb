"""Pictures as PNG files, in fonts that have the characters."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huiyan.core.errors import MissingExtraError, OutputError
from huiyan.core.files import atomic_path

_CJK = (
    *("Noto Sans CJK SC", "Noto Sans CJK", "Noto Serif CJK SC", "Noto Serif CJK", "Source Han Sans SC", "WenQuanYi"),
    *("PingFang SC", "Microsoft YaHei", "SimHei"),
)


def saved_png(path: Path, draw: Callable[[Any], None], *, inches: tuple[float, float], text: str) -> list[str]:
    """Write a picture.

    Args:
        path: of the file.
        draw: what is drawn on a matplotlib figure.
        inches: its width and height.
        text: what is written in it, to find a font.
    Returns:
        What the user should know, such as a font that is missing.
    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("--png", extra="plot") from error
    families, remarks = fonts_for(text)
    with mpl.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # said in ``remarks``, once
        figure = Figure(inches, layout="constrained")
        draw(figure)
        try:
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format="png", dpi=130)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    return remarks


def fonts_for(text: str) -> tuple[list[str], list[str]]:
    """Fonts for a text, and what to say where there is none for its Chinese characters."""
    from matplotlib import font_manager

    known = sorted({font.name for font in font_manager.fontManager.ttflist})
    chinese = any("\u2e80" <= character <= "\u9fff" for character in text)
    found = [name for wanted in _CJK for name in known if name.startswith(wanted)] if chinese else []
    missing = (
        "No font with Chinese characters was found, so they are boxes in the picture. Install one, such as Debian's "
        "fonts-noto-cjk, and remove matplotlib's font cache."
    )
    return [*found[:1], "DejaVu Sans"], [missing] if chinese and not found else []
