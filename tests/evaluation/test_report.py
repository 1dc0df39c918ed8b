"""The report: one HTML file without dependencies."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.report import make_cards, write_report
from evaluation.results import EvaluationResult
from evaluation.save_results import save_results
from igrag.metrics.cider import cider_d
from igrag.metrics.tokens import tokenize_corpus
from tests.evaluation.example_results import CAPTIONS, REFERENCES, make_dataset, make_result
from tests.tiny import CocoFolder

EVIL = "<script>alert(1)</script> & \"a\" 'b' {{ 7*7 }} </article> é 犬"
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """A page as a browser parses it: elements with their attributes, and their text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == [], "elements that are not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Records an element."""
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """Closes an element, which must be the last that was opened."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Adds a text to every element around it."""
        for tag in self._open:
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        """Returns the attributes of all elements with this tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        """Returns the texts of all elements with this tag, white space normalized."""
        return [" ".join(text.split()) for text in self.texts.get(tag, [])]


def save(result: EvaluationResult, folder: Path, *, max_images: int = 500) -> Page:
    """Writes a report with a chart of one pixel, and parses it as a browser does."""
    Image.new("RGB", (1, 1)).save(folder / "chart.png")
    write_report(
        result, folder / "report.html", charts=[folder / "chart.png"], max_images=max_images
    )
    return Page(folder / "report.html")


def test_card_shows_all_captions_and_references(tmp_path: Path) -> None:
    """Each card has the image's id, the captions of all methods, and all references."""
    page = save(make_result(), tmp_path)
    cards = page.text("article")
    assert len(cards) == 3
    for index, texts in enumerate(REFERENCES):
        (card,) = [card for card in cards if texts[0] in card]
        for expected in (*texts, *(captions[index] for captions in CAPTIONS.values())):
            assert expected in card
    assert sorted(page.text("h2")) == ["1", "2", "3"]
    assert page.text("dt")[:2] == ["base", "prompt"]
    assert page.text("td")[0] == "base"


def test_cards_are_sorted_by_gain(tmp_path: Path) -> None:
    """Cards are sorted by the gain of the best method over the baseline, and hold its figures."""
    page = save(make_result(), tmp_path)
    before, after = (
        cider_d(*tokenize_corpus(CAPTIONS[name], REFERENCES)) for name in ("base", "prompt")
    )
    gains = (after - before).tolist()
    cards = page.all("article")
    order = sorted(range(3), key=lambda index: -gains[index])
    assert [int(card["data-index"]) for card in cards] == order
    assert [float(card["data-gain"]) for card in cards] == [gains[index] for index in order]
    assert [card["data-sign"] for card in cards] == ["up", "down", "down"]
    assert page.text("span").count("▲ " + f"{gains[order[0]]:+.2f}") == 1


def test_report_fetches_nothing(tmp_path: Path, coco: CocoFolder) -> None:
    """No element refers to anything outside of the file, and the page's policy forbids it."""
    dataset = make_dataset(files=[coco.image(1), coco.image(2), None])
    page = save(make_result(dataset=dataset), tmp_path)
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert "href" not in attributes and "srcset" not in attributes
        assert str(attributes.get("src", "data:")).startswith("data:"), tag
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "http://" not in text and "https://" not in text and "url(" not in text
    policy = next(each for each in page.all("meta") if "http-equiv" in each)
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:;")


def test_images_are_inlined_as_thumbnails(tmp_path: Path, coco: CocoFolder) -> None:
    """Images are scaled down in their proportions, and have an alternative text."""
    large = tmp_path / "large.png"
    Image.new("RGB", (2000, 1000), "teal").save(large)
    page = save(make_result(dataset=make_dataset(files=[large, coco.image(2), None])), tmp_path)
    images = {each["alt"]: each["src"] for each in page.all("img")}
    sizes = {}
    for name, uri in images.items():
        if name.startswith("Image"):
            assert uri.startswith("data:image/jpeg;base64,")
            content = base64.b64decode(uri.partition(",")[2], validate=True)
            with Image.open(io.BytesIO(content)) as image:
                sizes[name] = image.size
    assert sizes == {"Image 1": (360, 180), "Image 2": (48, 40)}
    assert [card.get("class") for card in page.all("article")].count("text") == 1


def test_unreadable_image_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The captions are shown without the image, and a warning is logged."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    page = save(make_result(dataset=make_dataset(files=[broken, None, None])), tmp_path)
    assert len(page.all("article")) == 3 and len(page.all("img")) == 1
    assert "not shown in the report: 1 images" in caplog.text and "broken.jpg" in caplog.text


def test_texts_are_escaped(tmp_path: Path) -> None:
    """Markup in captions, references, ids and names of methods is shown literally."""
    dataset = make_dataset(((EVIL,), ("b",), ("c",)), ids=[EVIL, "2", "3"])
    page = save(make_result({"base": [EVIL, "b", "c"], EVIL: ["a", EVIL, ""]}, dataset), tmp_path)
    assert len(page.all("script")) == 1 and len(page.all("article")) == 3
    assert all(not name.startswith("on") for _, each in page.elements for name in each)
    assert page.text("li").count(EVIL) == 1
    assert page.text("dd").count(EVIL) == 2
    assert page.text("h2").count(EVIL) == 1
    assert page.text("dt").count(EVIL) == 3
    assert "49" not in page.text("h2")[0]


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark."""
    page = save(make_result({"base": ["a \ud83d dog", "b", "c"]}), tmp_path)
    assert any("a ? dog" in text for text in page.text("dd"))


def test_words_of_no_reference_are_underlined(tmp_path: Path) -> None:
    """Words are compared without case and punctuation."""
    captions = {"base": ["A DOG, runs slowly.", "car", ""]}
    page = save(make_result(captions), tmp_path)
    marked = [each for each in page.text("span") if each in ("slowly.", "DOG,", "A", "runs")]
    assert marked == ["slowly."]
    assert "(empty)" in page.text("dd")


def test_of_many_images_largest_gains_and_losses_are_shown(tmp_path: Path) -> None:
    """Half of the cards are the largest gains, half the largest losses, and a line states it."""
    count = 9
    references = [(f"a dog number {n} runs on a beach",) for n in range(count)]
    # The farther on, the more words are right.
    tuned = [" ".join(references[n][0].split()[:n]) for n in range(count)]
    result = make_result({"base": ["a dog"] * count, "prompt": tuned}, make_dataset(references))
    everything = [card.index for card in make_cards(result, max_images=count)]
    assert len(everything) == count
    some = make_cards(result, max_images=5)
    assert [card.index for card in some] == [*everything[:3], *everything[-2:]]
    save(result, tmp_path, max_images=5)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "5 of them are shown" in text
    save(result, tmp_path, max_images=count)
    assert "of them are shown" not in (tmp_path / "report.html").read_text("utf-8")


def test_report_of_one_method_has_no_gain(tmp_path: Path) -> None:
    """With one method there is no gain to sort or filter by."""
    page = save(make_result({"mine": CAPTIONS["prompt"]}), tmp_path)
    assert [each["value"] for each in page.all("option")] == ["score -1", "score 1", "index 1"]
    assert [each["id"] for each in page.all("select")] == ["sort"]
    scores = [float(card["data-score"]) for card in page.all("article")]
    assert scores == sorted(scores, reverse=True)


def test_report_of_single_image_shows_rouge_l(tmp_path: Path) -> None:
    """CIDEr-D is not defined for a single image, so ROUGE-L is shown next to the captions."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    page = save(make_result(one, make_dataset(REFERENCES[:1])), tmp_path)
    assert "Next to each caption: its ROUGE-L" in page.text("p")[0]
    assert float(page.all("article")[0]["data-score"]) == pytest.approx(1.0)


def test_controls_match_the_script(tmp_path: Path) -> None:
    """Every element that the script uses exists, and every order is one of the figures."""
    page = save(make_result(), tmp_path)
    script = page.texts["script"][0]
    (listed,) = re.findall(r'\[("cards".*?)\]', script)
    ids = {each.get("id") for _, each in page.elements}
    assert set(re.findall(r'"(\w+)"', listed)) <= ids
    card = page.all("article")[0]
    for option in page.all("option"):
        key = str(option["value"]).split(" ")[0]
        assert f"data-{key}" in card or key in ("", "up", "down", "same")


def test_save_results_writes_all_files(tmp_path: Path) -> None:
    """Generated captions are written too; captions from files are not written again."""
    names = ["metrics.json", "table.md", "comparison.png", "report.html"]
    files = save_results(make_result(), tmp_path / "a", report_images=5)
    assert [path.name for path in files] == names
    files = save_results(make_result(generated=True), tmp_path / "b", report_images=5)
    assert [path.name for path in files] == [
        "results.json", "results_base.json", "results_prompt.json", *names,
    ]  # fmt: skip
    assert sorted((tmp_path / "b").iterdir()) == sorted(files)
    png = (tmp_path / "b" / "comparison.png").read_bytes()
    assert base64.b64encode(png).decode() in (tmp_path / "b" / "report.html").read_text("utf-8")
