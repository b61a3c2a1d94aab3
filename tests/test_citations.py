"""Citations lead somewhere: to a heading of the documentation, or to a reference with its title and place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# what may still cite the document that is not shipped
EXEMPT = ("dastc/adapt/", "dastc/models/video_segmenter.py", "examples/")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
SOURCES = [
    path
    for folder in ("dastc", "examples", "benchmarks", "docs", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md"} and not {"_build", "api"} & set(path.parts)
]
FILES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SOURCES])
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))

NOT_SHIPPED = re.compile(r"\bMETHOD(?:\.md| \d)")
ANCHOR = re.compile(r"\b([\w-]+\.md)#([\w-]+)")
AUTHORS_AND_YEAR = re.compile(r"\b([A-Z][\w-]+ (?:et al\.|and [A-Z][\w-]+)),? (\d{4})\b")


def _slug(heading):
    """Return the anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _anchors(page):
    text = re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)  # a comment in code is no heading
    # docs/conf.py gives anchors to three levels
    return {_slug(heading) for heading in re.findall(r"^#{1,3} (.+)$", text, re.M)}


def _references():
    return set(AUTHORS_AND_YEAR.findall(PAGES["method.md"].partition("\n## References\n")[2]))


def _broken(text):
    anchors = {name: _anchors(page) for name, page in PAGES.items()}
    broken = [f"{page}#{anchor}" for page, anchor in ANCHOR.findall(text) if anchor not in anchors.get(page, ())]
    one_line = re.sub(r"\s+", " ", text)
    cited = AUTHORS_AND_YEAR.findall(one_line)
    return broken + [" ".join(work) for work in cited if work not in _references()]


@each_file
def test_each_citation_leads_somewhere(path):
    if path == Path(__file__):
        return
    assert _broken(path.read_text(encoding="utf-8")) == []


@each_file
def test_nothing_cites_what_is_not_shipped(path):
    if path == Path(__file__) or str(path.relative_to(ROOT)).startswith(EXEMPT):
        return
    assert NOT_SHIPPED.findall(path.read_text(encoding="utf-8")) == []


def test_a_citation_that_leads_nowhere_is_seen():
    assert _broken("docs/method.md#the-video-model, [results](results.md#streetclips)") == []
    assert _broken("Xing et\n        al. 2022 (TPS), Teed and Deng 2020") == []
    assert _broken("see docs/method.md#no-such-heading") == ["method.md#no-such-heading"]
    assert _broken("see docs/no_such_page.md#the-total") == ["no_such_page.md#the-total"]
    assert _broken("Nobody et al. 2022; Xing et al. 2023") == ["Nobody et al. 2022", "Xing et al. 2023"]
    assert NOT_SHIPPED.search("see METHOD 7.2")
    assert NOT_SHIPPED.search("METHOD.md's facts")


def test_all_kinds_of_citations_are_there():
    docstrings = "".join(path.read_text(encoding="utf-8") for path in FILES if "dastc" in path.parts[-3:])
    assert "docs/method.md#" in docstrings
    assert AUTHORS_AND_YEAR.search(docstrings)
    assert len(_references()) > 20
