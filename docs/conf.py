"""Sphinx' configuration. The API pages are written from ``__all__`` before each build."""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import dastc  # noqa: E402  from this checkout, wherever it is built

project = "dastc"
author = "The dastc developers"
copyright = "The dastc developers, Apache-2.0"
version = release = dastc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nitpicky = False

html_theme = "furo"
html_title = f"dastc {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shape", "Source"]


def write_api_pages(folder: Path) -> None:
    """Write a page for the root and for each public package, and an index; remove the pages of packages now gone."""
    folder.mkdir(parents=True, exist_ok=True)
    inside = ("ops", "labelling", "commands")  # reached through dastc.functional, dastc.adapt and the command line
    paths = sorted(path for path in (ROOT / "dastc").glob("[a-z]*/__init__.py") if path.parent.name not in inside)
    seen: set[int] = set()
    pages = {name: _page(name, seen) for name in ["dastc", *(f"dastc.{path.parent.name}" for path in paths)]}
    toc = "\n".join(["# API", "", "```{toctree}", ":maxdepth: 1", "", *pages, "```", ""])
    pages["index"] = toc
    for path in folder.glob("*.md"):
        if path.stem not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # an equal page is not built again
            path.write_text(text, encoding="utf-8")


def _page(package: str, seen: set[int]) -> str:
    module = import_module(package)
    entries = [_entry(module, name, seen) for name in getattr(module, "__all__", ())]
    head = [f"# {package}", "", inspect.getdoc(module) or "", ""]
    return "\n".join([*head, "```{eval-rst}", f".. currentmodule:: {package}", "", *entries, "```", ""])


def _entry(module: Any, name: str, seen: set[int]) -> str:
    found = getattr(module, name)
    # what two packages export has its anchor on the first page
    options = ["   :no-index:"] if id(found) in seen else []
    if inspect.ismodule(found):
        return _namespace(module, name, found, seen)
    if inspect.isclass(found):
        kind = "autoclass"
        # what the class' own docstring says is not listed once more, field by field
        hidden = ["extra_repr", *getattr(found, "_fields", ())]
        if "forward" in vars(found) and "Shape:" in (inspect.getdoc(found) or ""):
            hidden.append("forward")
        options += ["   :members:", f"   :exclude-members: {', '.join(hidden)}"]
    elif inspect.isroutine(found):
        kind = "autofunction"
    else:
        kind = "py:data"  # autodata would print the docstring of the constant's type
        options.append(f"   :type: {type(found).__name__}")
    if kind != "py:data":  # a constant may be the same object by chance
        seen.add(id(found))
    return "\n".join([f".. {kind}:: {name}", *options, ""])


def _namespace(module: Any, name: str, found: Any, seen: set[int]) -> str:
    inside = [_entry(found, entry, seen) for entry in found.__all__]
    head = [f".. rubric:: {name}", "", inspect.getdoc(found) or "", "", f".. currentmodule:: {found.__name__}", ""]
    return "\n".join([*head, *inside, f".. currentmodule:: {module.__name__}", ""])


def link_citations(lines: list[str]) -> None:
    """Make links of the pages and anchors that docstrings cite; the API pages lie one folder below the others."""
    lines[:] = [re.sub(r"\bdocs/([\w-]+)\.md#([\w-]+)", r"`\1: \2 <../\1.html#\2>`__", line) for line in lines]


def setup(app: Any) -> None:
    """Tie the writing of the API pages to the start of a build, and links to the reading of docstrings."""
    app.connect("builder-inited", lambda app: write_api_pages(Path(app.srcdir) / "api"))
    app.connect("autodoc-process-docstring", lambda *event: link_citations(event[-1]))
