"""The site of mkdocs.yml: it is built without warnings, its links work, and nothing is fetched."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from igrag.config import REPO_ROOT

PAGES = ("index", "quickstart", "prompt_tuning", "lora_training", "evaluation", "configuration",
         "architecture", "reliability", "glossary", "benchmarks", "changelog",
         "api/captioning", "api/prompt_tuning", "api/metrics")  # fmt: skip
# What a browser fetches by itself, not when a reader follows a link.
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "srcset"}


class Document(HTMLParser):
    """The links of a page, what a browser fetches for it, its anchors and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.text = file.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects one element."""
        found = {name: value for name, value in attrs if value is not None}
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in FETCHED and FETCHED[tag] in found:
            self.fetched.append(found[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPO_ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def documents(site: Path) -> dict[Path, Document]:
    """Returns every page of the site by its file."""
    return {file: Document(file) for file in site.rglob("*.html") if file.name != "404.html"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["", "zh"])
def test_site_has_every_page(site: Path, folder: str) -> None:
    """Both languages have the same pages; what is not translated is English in both."""
    assert [page for page in PAGES if not (site / folder / f"{page}.html").is_file()] == []


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(documents: dict[Path, Document]) -> None:
    """Links within the site, between its languages and to source files have targets."""
    broken = []
    for file, document in documents.items():
        for link in {*document.links, *document.fetched}:
            scheme, _, path, _, anchor = urlsplit(link)
            if scheme or path.endswith("..") or (not path and not anchor):
                continue
            target = (file.parent / unquote(path)).resolve() if path else file
            known = documents[target].anchors if target in documents else set()
            if not target.exists() or (anchor and target in documents
                                       and unquote(anchor) not in known):  # fmt: skip
                broken.append(f"{file}: {link}")
    assert broken == []


@pytest.mark.slow
def test_site_fetches_nothing_from_elsewhere(site: Path, documents: dict[Path, Document]) -> None:
    """No font, script, style sheet or image of a page or style sheet comes from another host."""
    fetched = {each for document in documents.values() for each in document.fetched}
    assert len(fetched) > 3
    assert [each for each in fetched if re.match(r"(https?:)?//", each)] == []
    styles = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))
    assert re.findall(r"@import[^;]*;|url\(['\"]?(?:https?:)?//[^)]*\)", styles) == []


@pytest.mark.slow
def test_pages_show_what_the_repository_has(site: Path, documents: dict[Path, Document]) -> None:
    """READMEs, notebook, docstrings and linked source files are those of the repository."""
    texts = {file.relative_to(site).as_posix(): each.text for file, each in documents.items()}
    assert "Retrieval-augmented" in texts["index.html"]
    assert "基于检索的图像描述生成" in texts["zh/index.html"]
    assert 'id="结果"' in texts["zh/evaluation.html"]
    assert 'id="comparison"' not in texts["index.html"]  # a page of its own
    assert 'href="zh/prompt_tuning.html"' in texts["index.html"]  # where the README links 中文
    assert 'href="../prompt_tuning.html"' in texts["zh/index.html"]
    assert "load_captioner" in texts["quickstart.html"]
    assert "软提示" in texts["zh/quickstart.html"]
    assert "A frozen T5 and one learnable tensor" in texts["api/prompt_tuning.html"]
    source = site / "files" / "benchmarks" / "serving.py.txt"
    assert source.read_bytes() == (REPO_ROOT / "benchmarks" / "serving.py").read_bytes()
