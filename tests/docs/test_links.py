"""Every link of the README and of the pages leads to a file and a heading that are there."""

import re
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parent.parent.parent
DOCS = PROJECT / "docs"
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(DOCS.rglob("*.md"))

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that headings get: letters and digits in lower case, everything else a hyphen."""
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", _CODE.sub(_unmarked, page.read_text("utf-8")), re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found.add(re.sub(r"[\s-]+", "-", words))
    return found


def broken(page: Path, text: str) -> list[str]:
    """The links in `text`, as it would stand on `page`, that lead nowhere."""
    wrong = []
    for link in _LINK.findall(_CODE.sub(_unmarked, text)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


def _unmarked(code: re.Match[str]) -> str:
    """Code inside a line without its marks; blocks go away."""
    return "" if code[0].lstrip().startswith("```") else code[0].strip("`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text("utf-8")) == []


@pytest.mark.parametrize("link", ["no_such.md", "index.md#no-such-heading", "#nor-this", "pictures/none.svg"])
def test_a_broken_link_would_be_found(link: str) -> None:
    page = DOCS / "index.md"
    assert broken(page, f"See [there]({link}).") == [link]
    assert broken(page, "See [here](claims.md#a1), [there](theory/lipschitz.md#1-setting).") == []


def test_every_picture_is_shown_somewhere() -> None:
    texts = "".join(page.read_text("utf-8") for page in PAGES)
    assert [picture.name for picture in DOCS.rglob("*.svg") if picture.name not in texts] == []


def test_the_site_takes_nothing_from_elsewhere() -> None:
    config = yaml.safe_load((PROJECT / "mkdocs.yml").read_text("utf-8"))
    assert config["theme"]["font"] is False
    for name in ("mkdocs.yml", "docs/site.css"):
        assert not re.search(r"https?:|//\w", (PROJECT / name).read_text("utf-8")), name


def test_menus_name_every_page_once() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for item in (entry.values() if isinstance(entry, dict) else entry) for page in pages(item)]

    named = pages(yaml.safe_load((PROJECT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
