"""Lets pages link to source files: `[oracle.py](../src/huiyan/attention/oracle.py)` works in the repository and here.

For the site, each such file becomes a page of its own that shows it, and links lead there. A picture or a notebook is
copied as it is. The links in the pages stay those of the repository, where a reader of the sources follows them.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

_LINK = re.compile(r"\]\((\.\.?/[^)\s#]+)(#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".sh": "sh", ".toml": "toml", ".csv": "text"}
_SHOWN, _COPIED = "source/", "files/"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file outside the documentation that a page links to."""
    docs = Path(config.docs_dir)
    linked: dict[str, list[str]] = {}
    for file in files.documentation_pages():
        for link, _ in _LINK.findall(file.content_string):
            path = _outside(file.src_uri, link, docs)
            if path:
                linked.setdefault(path, []).append(file.src_uri)
    for path, pages in sorted(linked.items()):
        uri = _uri(path)
        if uri.startswith(_COPIED):
            made = File.generated(config, uri, abs_src_path=str(docs.parent / path))
        else:
            made = File.generated(config, uri, content=_shown(docs.parent, path, uri, pages))
        made.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(made)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files outside the documentation into links to their pages."""
    del files

    def turned(match: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, match[1], Path(config.docs_dir))
        return f"]({_from(page.file.src_uri, _uri(path))})" if path else match[0]

    return _LINK.sub(turned, markdown)


def _outside(page: str, link: str, docs: Path) -> str:
    """The path in the repository of a file that lies beside the documentation; empty for every other link."""
    path = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(page), link))
    outside = not path.startswith((f"{docs.name}/", "../"))
    return path if outside and (docs.parent / path).is_file() else ""


def _uri(path: str) -> str:
    shown = Path(path).suffix in _LANGUAGES
    return f"{_SHOWN}{path}.md" if shown else f"{_COPIED}{path}"


def _from(page: str, uri: str) -> str:
    return posixpath.relpath(uri, posixpath.dirname(page) or ".")


def _shown(root: Path, path: str, uri: str, pages: list[str]) -> str:
    text = (root / path).read_text(encoding="utf-8")
    back = ", ".join(f"[{page}]({_from(uri, page)})" for page in dict.fromkeys(pages))
    wide = "---\nhide: [toc]\nsearch: {exclude: true}\n---\n"
    return f"{wide}# {path}\n\nLinked from {back}.\n\n````{_LANGUAGES[Path(path).suffix]}\n{text}\n````\n"
