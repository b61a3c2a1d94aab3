"""The code in the README and in the documentation runs as it stands."""

import re
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if "```python" in path.read_text()
]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.M | re.S)


def _blocks(path):
    return [dedent(body) for _, body in BLOCK.findall(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_python_blocks_run(path):
    names = {"__name__": path.stem}
    for block in _blocks(path):
        exec(compile(block, str(path), "exec"), names)
    assert len(_blocks(path)) == path.read_text(encoding="utf-8").count("```python")


def test_the_readme_has_a_block_and_fits():
    assert _blocks(ROOT / "README.md")
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
