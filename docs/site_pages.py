"""Finds the pages of the site (mkdocs.yml), for mkdocs: documents stay where they are.

Most pages are files outside of docs/: READMEs and the notebook. They get the name of a page here,
and links between files become links between pages. What else a document links to, such as source
code, is copied into the site as text, so that no link depends on where the repository is hosted.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import CombinedEvent, event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
# Name of the page -> its file in English, and in Chinese where there is one.
PAGES = {
    "index": ("README.md", "README.zh.md"),
    "quickstart": ("docs/quickstart.ipynb", "docs/quickstart.zh.ipynb"),
    "prompt_tuning": ("prompt_tuning/README.en.md", "prompt_tuning/README.md"),
    "lora_training": ("lora_training/README.en.md", "lora_training/README.md"),
    "microtuning_method": (
        "lora_training/MICROTUNING_METHOD.en.md",
        "lora_training/MICROTUNING_METHOD.md",
    ),
    "evaluation": ("README.md#comparison", "README.zh.md#方法对比"),  # a section of its own
    "benchmarks": ("benchmarks/README.md",),
    "demo": ("demo/README.md",),
    "clip-mini": ("demo/models/clip-mini/README.md",),
    "t5-mini": ("demo/models/t5-mini/README.md",),
    "contributing": ("CONTRIBUTING.md",),
    "changelog": ("CHANGELOG.md",),
}
LANGUAGES = ("en", "zh")  # The first one is the default.
_IMAGES = (".jpg", ".png", ".svg")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_HEADING = re.compile(r"(#+) (.+)")
_CHINESE = re.compile("[\u3001-\u9fff\uff01-\uff60]")
_TO_TWIN = ("English: [", "中文版：[")  # The site has a menu for it.
_slug: Callable[[str, str], str] = slugify(case="lower")


@dataclass(frozen=True, slots=True)
class Source:
    """A document: the file of a page in one language.

    Attributes:
        page: Name of the page, such as "api/metrics".
        lang: Its language.
        file: From the repository's root.
        section: Slug of the heading of second level whose section is the page; "": no other page's
            sections.
    """

    page: str
    lang: str
    file: str
    section: str = ""

    @property
    def uri(self) -> str:
        """The name that mkdocs knows it by."""
        return f"{self.page}.md" if self.lang == LANGUAGES[0] else f"{self.page}.{self.lang}.md"

    @property
    def url(self) -> str:
        """Where it is in the site."""
        folder = "" if self.lang == LANGUAGES[0] else f"{self.lang}/"
        return f"{folder}{self.page}.html"


# Pages


@cache
def sources() -> dict[str, Source]:
    """Returns all documents by their uri."""
    found = [
        Source(page, lang, *file.split("#"))
        for page, files in PAGES.items()
        for lang, file in zip(LANGUAGES, files, strict=False)
    ]
    for path in (ROOT / "docs").rglob("*.md"):
        name, _, suffix = path.relative_to(ROOT / "docs").as_posix()[:-3].partition(".")
        file = path.relative_to(ROOT).as_posix()
        found.append(Source(name, suffix or LANGUAGES[0], file))
    return {source.uri: source for source in found}


@cache
def read(source: Source) -> str:
    """Returns a document's Markdown, links as they are in its file."""
    text = (ROOT / source.file).read_text(encoding="utf-8")
    if source.file.endswith(".ipynb"):
        text = notebook_text(text)
    head, *rest = text.splitlines()
    rest = [line for line in rest[:4] if not line.startswith(_TO_TWIN)] + rest[4:]
    sections: dict[str, list[str]] = {"": [head]}
    lines = sections[""]
    for line, is_text in outside_code(rest):
        if is_text and line.startswith("## "):
            lines = sections[_slug(line[3:], "-")] = []
        lines.append(line)
    if source.section:
        lines = sections[source.section]
        promoted = (line.removeprefix("#") if is_text else line for line, is_text in
                    outside_code(lines))  # fmt: skip
        return "\n".join(promoted) + "\n"
    elsewhere = {each.section for each in sources().values() if each.file == source.file}
    kept = (lines for slug, lines in sections.items() if not slug or slug not in elsewhere)
    return "\n".join(line for lines in kept for line in lines) + "\n"


def notebook_text(text: str) -> str:
    """Returns the cells of a notebook as Markdown."""
    cells = json.loads(text)["cells"]
    return "\n\n".join(
        f"```python\n{''.join(cell['source'])}\n```"
        if cell["cell_type"] == "code"
        else "".join(cell["source"])
        for cell in cells
    )


def outside_code(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Yields each line, and whether it is text: not in a block of code."""
    in_code = False
    for line in lines:
        is_fence = line.lstrip().startswith("```")
        yield line, not (in_code or is_fence)
        in_code ^= is_fence


# Links


def find(file: str, anchor: str, lang: str) -> Source | None:
    """Returns the document that a link to a file of the repository leads to, if it is a page."""
    of_file = [source for source in sources().values() if source.file == file]
    for source in of_file:
        if source.section and anchor in anchors(source):
            return source
    return next((source for source in of_file if not source.section), None)


@cache
def anchors(source: Source) -> set[str]:
    """Returns the anchors of a document's headings."""
    lines = outside_code(read(source).splitlines())
    headings = (_HEADING.fullmatch(line) for line, is_text in lines if is_text)
    return {_slug(heading[2], "-") for heading in headings if heading}


def local_links(source: Source) -> Iterator[str]:
    """Yields the files of the repository that a document links to."""
    for line, is_text in outside_code(read(source).splitlines()):
        for _, _, link in _LINK.findall(line) if is_text else ():
            if not re.match(r"\w+:|#", link):
                yield repository_path(source, link.partition("#")[0])


def repository_path(source: Source, link: str) -> str:
    """Returns the path from the repository's root that a document's relative link means."""
    folder = posixpath.dirname(source.file)
    return posixpath.normpath(posixpath.join(folder, unquote(link))) if link else source.file


def copied(file: str) -> str | None:
    """Returns the uri of the site's copy of a file; None for a folder."""
    if not (ROOT / file).is_file():
        return None
    return f"files/{file}" if file.endswith(_IMAGES) else f"files/{file}.txt"


def with_site_links(source: Source, lang: str) -> str:
    """Returns a document's Markdown for the site in `lang`, links between pages in it."""

    def replace(match: re.Match[str]) -> str:
        mark, text, link = match.groups()
        if re.match(r"\w+:", link):
            return match[0]
        path, _, anchor = link.partition("#")
        file = repository_path(source, path)
        target = find(file, unquote(anchor), source.lang)
        here = posixpath.dirname(source.uri) or "."
        end = f"#{anchor}" if anchor else ""
        if target is None:
            copy = copied(file)
            return text if copy is None else f"{mark}[{text}]({posixpath.relpath(copy, here)})"
        if target.lang == lang or Source(target.page, lang, "").uri not in sources():
            return f"[{text}]({posixpath.relpath(f'{target.page}.md', here)}{end})"
        # The other language's site, whose pages mkdocs does not know while it builds this one.
        folder = posixpath.dirname(Source(source.page, lang, "").url) or "."
        href = posixpath.relpath(target.url, folder)
        return f'<a href="{escape(href + end)}">{text}</a>'

    lines: list[str] = []
    for line, is_text in outside_code(read(source).splitlines()):
        line = _LINK.sub(replace, line) if is_text else line
        if is_text and lines and _CHINESE.match(line) and _CHINESE.match(lines[-1][-1:]):
            lines[-1] += line  # HTML would show a space for the end of the line.
        else:
            lines.append(line)
    return "\n".join(lines)


# Events of mkdocs


def _add_pages(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside of docs/, before the plugin i18n looks for translations."""
    for uri in sources():
        if files.get_file_from_path(uri) is None:
            files.append(File(uri, config.docs_dir, config.site_dir, config.use_directory_urls))
    return files


@event_priority(-200)
def _add_copies(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files that pages link to, once for all languages."""
    linked = {link for source in sources().values() for link in local_links(source)}
    for file in sorted(linked - {source.file for source in sources().values()}):
        if (uri := copied(file)) is not None:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / file)))
    return files


on_files = CombinedEvent(_add_pages, _add_copies)


def on_page_read_source(page: Page, config: MkDocsConfig) -> str:
    """Returns the Markdown of a page."""
    lang: str = page.file.locale_alternate_of  # type: ignore[attr-defined] # set by i18n
    return with_site_links(sources()[page.file.src_uri], lang)
