"""The report: one file that a person opens, and that needs nothing else."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.report import make_cards, write_report
from evaluation.results import Outcome
from evaluation.save_results import publish
from igrag.metrics import score_images
from tests.evaluation.outcomes import CAPTIONS, REFERENCES, outcome_of, split_of
from tests.tiny import CocoFolder

EVIL = "<script>alert(1)</script> & \"a\" 'b' {{ 7*7 }} </article> é 犬"
VOID = {"meta", "img", "input", "link", "br"}


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and their text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == [], "elements that are not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        """Closes an element, which must be the last that was opened."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text of every element around it."""
        for tag in self._open:
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        """Returns the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        """Returns the texts of all elements of a kind, white space normalized."""
        return [" ".join(text.split()) for text in self.texts.get(tag, [])]


def save(outcome: Outcome, folder: Path, *, most: int = 500) -> Page:
    """Writes a report with a chart of one pixel, and read it as a browser does."""
    Image.new("RGB", (1, 1)).save(folder / "chart.png")
    write_report(outcome, folder / "report.html", chart=folder / "chart.png", most=most)
    return Page(folder / "report.html")


def test_everything_stands_side_by_side(tmp_path: Path) -> None:
    """For each image its id, the captions of all methods, and all references."""
    page = save(outcome_of(), tmp_path)
    cards = page.text("article")
    assert len(cards) == 3
    for place, texts in enumerate(REFERENCES):
        (card,) = [card for card in cards if texts[0] in card]
        for expected in (*texts, *(captions[place] for captions in CAPTIONS.values())):
            assert expected in card
    assert sorted(page.text("h2")) == ["1", "2", "3"]
    assert page.text("dt")[:2] == ["base", "prompt"]
    assert page.text("td")[0] == "base"


def test_best_first_and_worst_last(tmp_path: Path) -> None:
    """In the order of what the best method gains over the base; each card knows its figures."""
    page = save(outcome_of(), tmp_path)
    before, after = (
        score_images(CAPTIONS[name], REFERENCES).cider_d for name in ("base", "prompt")
    )
    assert before is not None and after is not None
    gains = (after - before).tolist()
    cards = page.all("article")
    order = sorted(range(3), key=lambda place: -gains[place])
    assert [int(card["data-place"]) for card in cards] == order
    assert [float(card["data-gain"]) for card in cards] == [gains[place] for place in order]
    assert [card["data-sign"] for card in cards] == ["up", "down", "down"]
    assert page.text("span").count("▲ " + f"{gains[order[0]]:+.2f}") == 1


def test_nothing_is_fetched(tmp_path: Path, coco: CocoFolder) -> None:
    """No element names anything outside of the file, and the page forbids itself to."""
    split = split_of(files=[coco.image(1), coco.image(2), None])
    page = save(outcome_of(split=split), tmp_path)
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for tag, attributes in page.elements:
        assert "href" not in attributes and "srcset" not in attributes
        assert attributes.get("src", "data:").startswith("data:"), tag
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "http://" not in text and "https://" not in text and "url(" not in text
    policy = next(each for each in page.all("meta") if "http-equiv" in each)
    assert policy["content"].startswith("default-src 'none'; img-src data:;")


def test_images_are_inlined_and_small(tmp_path: Path, coco: CocoFolder) -> None:
    """Scaled down, in their proportions, with a text for those who do not see them."""
    large = tmp_path / "large.png"
    Image.new("RGB", (2000, 1000), "teal").save(large)
    page = save(outcome_of(split=split_of(files=[large, coco.image(2), None])), tmp_path)
    images = {each["alt"]: each["src"] for each in page.all("img")}
    sizes = {}
    for name, uri in images.items():
        if name.startswith("EvaluationImage"):
            assert uri.startswith("data:image/jpeg;base64,")
            content = base64.b64decode(uri.partition(",")[2], validate=True)
            with Image.open(io.BytesIO(content)) as image:
                sizes[name] = image.size
    assert sizes == {"EvaluationImage 1": (360, 180), "EvaluationImage 2": (48, 40)}
    assert [card.get("class") for card in page.all("article")].count("text") == 1


def test_an_unreadable_image_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its captions are shown without it, which is said."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    page = save(outcome_of(split=split_of(files=[broken, None, None])), tmp_path)
    assert len(page.all("article")) == 3 and len(page.all("img")) == 1
    assert "not shown in the report: 1 images" in caplog.text and "broken.jpg" in caplog.text


def test_texts_are_texts(tmp_path: Path) -> None:
    """Whatever captions, references, ids and names of methods hold, the page shows it literally."""
    split = split_of(((EVIL,), ("b",), ("c",)), ids=[EVIL, "2", "3"])
    page = save(outcome_of({"base": [EVIL, "b", "c"], EVIL: ["a", EVIL, ""]}, split), tmp_path)
    assert len(page.all("script")) == 1 and len(page.all("article")) == 3
    assert all(not name.startswith("on") for _, each in page.elements for name in each)
    assert page.text("li").count(EVIL) == 1
    assert page.text("dd").count(EVIL) == 2
    assert page.text("h2").count(EVIL) == 1
    assert page.text("dt").count(EVIL) == 3
    assert "49" not in page.text("h2")[0]


def test_half_a_character_breaks_nothing(tmp_path: Path) -> None:
    """JSON can hold what no file can."""
    page = save(outcome_of({"base": ["a \ud83d dog", "b", "c"]}), tmp_path)
    assert any("a ? dog" in text for text in page.text("dd"))


def test_words_of_no_reference_are_marked(tmp_path: Path) -> None:
    """Case and punctuation do not matter."""
    captions = {"base": ["A DOG, runs slowly.", "car", ""]}
    page = save(outcome_of(captions), tmp_path)
    marked = [each for each in page.text("span") if each in ("slowly.", "DOG,", "A", "runs")]
    assert marked == ["slowly."]
    assert "(empty)" in page.text("dd")


def test_of_many_images_the_extremes_are_shown(tmp_path: Path) -> None:
    """Half of them the greatest gains, half the greatest losses, and the page says so."""
    count = 9
    references = [(f"a dog number {n} runs on a beach",) for n in range(count)]
    # The farther on, the more words are right.
    tuned = [" ".join(references[n][0].split()[:n]) for n in range(count)]
    outcome = outcome_of({"base": ["a dog"] * count, "prompt": tuned}, split_of(references))
    everything = [card.place for card in make_cards(outcome, most=count)]
    assert len(everything) == count
    some = make_cards(outcome, most=5)
    assert [card.place for card in some] == [*everything[:3], *everything[-2:]]
    save(outcome, tmp_path, most=5)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Shown are 5 of them" in text
    save(outcome, tmp_path, most=count)
    assert "Shown are" not in (tmp_path / "report.html").read_text("utf-8")


def test_one_method_alone(tmp_path: Path) -> None:
    """There is no gain to sort or filter by."""
    page = save(outcome_of({"mine": CAPTIONS["prompt"]}), tmp_path)
    assert [each["value"] for each in page.all("option")] == ["score -1", "score 1", "place 1"]
    assert [each["id"] for each in page.all("select")] == ["sort"]
    scores = [float(card["data-score"]) for card in page.all("article")]
    assert scores == sorted(scores, reverse=True)


def test_a_single_image(tmp_path: Path) -> None:
    """CIDEr-D is not defined there; ROUGE-L stands beside the captions, and the page says so."""
    one = {name: texts[:1] for name, texts in CAPTIONS.items()}
    page = save(outcome_of(one, split_of(REFERENCES[:1])), tmp_path)
    assert "Beside each caption stands its ROUGE-L" in page.text("p")[0]
    assert float(page.all("article")[0]["data-score"]) == pytest.approx(1.0)


def test_controls_do_what_they_say(tmp_path: Path) -> None:
    """Every element that the script asks for is there, and every order is one of the figures."""
    page = save(outcome_of(), tmp_path)
    script = page.texts["script"][0]
    (listed,) = re.findall(r'\[("cards".*?)\]', script)
    ids = {each.get("id") for _, each in page.elements}
    assert set(re.findall(r'"(\w+)"', listed)) <= ids
    card = page.all("article")[0]
    for option in page.all("option"):
        key = str(option["value"]).split(" ")[0]
        assert f"data-{key}" in card or key in ("", "up", "down", "same")


def test_all_files_are_published(tmp_path: Path) -> None:
    """Captions that a model wrote are written too, those from files are not written again."""
    names = ["metrics.json", "table.md", "comparison.png", "report.html"]
    written = publish(outcome_of(), tmp_path / "a", report_images=5)
    assert [path.name for path in written] == names
    written = publish(outcome_of(written=True), tmp_path / "b", report_images=5)
    assert [path.name for path in written] == [
        "results.json", "results_base.json", "results_prompt.json", *names,
    ]  # fmt: skip
    assert sorted((tmp_path / "b").iterdir()) == sorted(written)
    png = (tmp_path / "b" / "comparison.png").read_bytes()
    assert base64.b64encode(png).decode() in (tmp_path / "b" / "report.html").read_text("utf-8")
