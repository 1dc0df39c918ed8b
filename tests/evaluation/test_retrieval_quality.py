"""Scores by how good retrieval was."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from evaluation.categories import Instances, NamesMainCategory
from evaluation.dataset import EvaluationDataset, EvaluationImage
from evaluation.instances import KnownObjects, find_objects
from evaluation.options import check_options, default_instances, parse_arguments
from evaluation.retrieval_chart import draw_retrieval_quality
from evaluation.retrieval_quality import (
    CaptionedImages,
    RetrievalQuality,
    group_images,
    score_groups,
)
from evaluation.save_results import save_results, table_text
from evaluation.scoring import restrict, score_methods
from igrag.config import REPO_ROOT
from igrag.data.coco import DetectedObject, ImageId, InstancesFile
from igrag.errors import DataError, KnowledgeBaseError
from igrag.metrics import score_captions
from tests.evaluation.evaluator import Evaluator
from tests.evaluation.example_results import CAPTIONS, REFERENCES, make_result
from tests.tiny import CocoFolder

COUNT = 40
# Images 0 to 39; the first half show dogs, the others cats; the knowledge base has dogs alone.
SUBJECTS = ["dog" if n < COUNT // 2 else "cat" for n in range(COUNT)]
TEXTS = [(f"a {subject} number {n} sits", f"one {subject}") for n, subject in enumerate(SUBJECTS)]


class Dogs:
    """A knowledge base of dogs and of a car, with the ids from 100 on."""

    image_ids: Sequence[ImageId] = (100, 101, 102)

    def captions_of(self, image_id: ImageId) -> Sequence[str]:
        """Returns an image's caption."""
        return ("a car",) if image_id == 102 else ("a dog",)


def make_instances() -> Instances:
    """Returns the objects of the images and of the knowledge base."""
    labels: dict[ImageId, str] = {**dict(enumerate(SUBJECTS)), 100: "dog", 101: "dog", 102: "car"}
    objects = {key: [DetectedObject(label, (0, 0, 1, 1))] for key, label in labels.items()}
    names = {key: f"{key}.jpg" for key in labels}
    return Instances([InstancesFile(objects, names, dict.fromkeys(("dog", "cat", "car")))], {})


def make_images() -> EvaluationDataset:
    """Returns images of which every fourth one's match is the car; cosines grow."""
    images = tuple(
        EvaluationImage(n, texts, matches=((102 if n % 4 == 0 else 100, 0.5 + n / 100),))
        for n, texts in enumerate(TEXTS)
    )
    return EvaluationDataset(Path("a.jsonl"), images, frozenset(map(str, range(COUNT))))


def score(dataset: EvaluationDataset, **options: object) -> RetrievalQuality:
    """Groups images, and scores three methods on them."""
    groups = group_images(dataset, **options)  # type: ignore[arg-type]
    names = NamesMainCategory(SUBJECTS, make_instances().names)
    captions = {
        "base": ["a bus"] * COUNT,
        "nearest": ["a dog number 3 sits"] * COUNT,
        "prompt": [texts[0] if n % 2 else "a dog" for n, texts in enumerate(TEXTS)],
    }
    methods = score_methods(
        captions, TEXTS, baseline="base", seed=0, skip=("meteor",), over=("base", "nearest"),
        human=True, extra=[names],
    )  # fmt: skip
    return score_groups(groups, methods, images=COUNT, seed=0)


def known() -> dict[str, object]:
    """Returns the options of images whose objects are known."""
    knowledge_base: CaptionedImages = Dogs()
    return {
        "categories": SUBJECTS,
        "instances": make_instances(),
        "knowledge_base": knowledge_base,
    }


def test_images_are_grouped_in_three_ways() -> None:
    """By quartiles of the cosine, by the matches' category, and by the knowledge base's."""
    found = {each.key: each.groups for each in group_images(make_images(), **known())}  # type: ignore[arg-type]
    assert [len(group.indices) for group in found["top_similarity"]] == [10, 10, 10, 10]
    assert found["top_similarity"][0].indices == tuple(range(10))
    assert found["top_similarity"][0].name == "0.500 to 0.590"
    no, yes = found["match_category"]
    assert yes.indices == tuple(n for n in range(20) if n % 4)
    assert (no.name, yes.name) == ("no", "yes") and len(no.indices) == 25
    not_covered, covered = found["coverage"]
    assert covered.indices == tuple(range(20)) and not_covered.indices == tuple(range(20, 40))


def test_equal_cosines_are_in_one_group() -> None:
    """Images of the same cosine are never split, and a single group is none."""
    dataset = make_images()
    equal = tuple(replace(image, matches=((100, 0.7),)) for image in dataset.images)
    assert group_images(replace(dataset, images=equal)) == []
    two = (*equal[:10], *(replace(image, matches=((100, 0.9),)) for image in equal[10:]))
    (grouping,) = group_images(replace(dataset, images=two))
    assert [len(group.indices) for group in grouping.groups] == [10, 30]
    few = replace(dataset, images=dataset.images[:19])
    assert group_images(few) == []  # Quartiles of too few images.


def test_scores_of_a_group_are_those_of_its_images() -> None:
    """Scores come from the group's images alone, CIDEr-D with the weights of all images."""
    methods = score_methods(CAPTIONS, REFERENCES, baseline="base", seed=0, skip=("meteor",))
    parts = restrict(methods, [0, 2])
    for part, whole in zip(parts, methods, strict=True):
        own = [CAPTIONS[whole.name][n] for n in (0, 2)]
        alone = score_captions(own, [REFERENCES[n] for n in (0, 2)], skip=("meteor",))
        assert part.captions == own and part.scores["bleu4"] == alone["bleu4"]
        statistics = whole.scores.scores["cider_d"].statistics
        assert statistics is not None
        assert part.scores["cider_d"] == pytest.approx(statistics[[0, 2]].mean())
        assert part.intervals == {} == part.over


def test_both_parts_and_the_whole_are_tested() -> None:
    """Tables and JSON have every group; by coverage there are sentences and paired tests."""
    quality = score(make_images(), **known())
    tables = quality.tables()
    assert [table.title.split(" by ")[0] for table in tables] == [
        "BLEU-4", "CIDEr-D", "names main category",
    ]  # fmt: skip
    assert tables[0].rows[0] == ["group", "images", "base", "nearest", "prompt", "human"]
    names = [row[:2] for row in tables[2].rows[5:]]
    assert names == [
        ["a match has the main category: no", "25"],
        ["a match has the main category: yes", "15"],
        ["main category in the knowledge base: not covered", "20"],
        ["main category in the knowledge base: covered", "20"],
        ["all", "40"],
    ]
    not_covered, covered, whole = tables[2].rows[-3:]
    assert not_covered[2:] == ["0.000", "0.000", "0.500", "1.000"]
    assert covered[2:] == ["0.000", "1.000", "1.000", "1.000"]
    assert whole[2:] == ["0.000", "0.500", "0.750", "1.000"]
    first, second = tables[-1].notes
    assert first.startswith("Not covered (20 images): prompt: in BLEU-4 it beats base by ")
    assert second.startswith("Covered (20 images): prompt: ")
    parts = {(each["by"], each["group"]): each for each in quality.to_json()}
    prompt = parts["coverage", "covered"]["methods"]["prompt"]
    assert prompt["over"]["nearest"]["bleu4"]["difference"] == pytest.approx(
        prompt["bleu4"] - parts["coverage", "covered"]["methods"]["nearest"]["bleu4"]
    )
    assert set(prompt["intervals"]) >= {"bleu4", "cider_d"}
    assert parts["match_category", "yes"]["methods"]["prompt"]["over"] == {}


@pytest.mark.slow
def test_chart_is_the_same_png_every_time(tmp_path: Path) -> None:
    """The same scores give the same bytes; more properties make it wider."""
    quality = score(make_images(), **known())
    draw_retrieval_quality(quality, tmp_path / "a.png", baseline="base")
    draw_retrieval_quality(quality, tmp_path / "b.png", baseline="base")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    draw_retrieval_quality(score(make_images()), tmp_path / "c.png", baseline="base")
    with Image.open(tmp_path / "a.png") as wide, Image.open(tmp_path / "c.png") as narrow:
        assert wide.width > narrow.width


@pytest.mark.slow
def test_files_have_tables_and_chart(tmp_path: Path) -> None:
    """They are in table.md, report.html and metrics.json; without groups the chart is removed."""
    result = make_result()
    with_groups = replace(result, retrieval=score(make_images(), **known()))
    files = save_results(with_groups, tmp_path, report_images=5)
    chart = tmp_path / "retrieval_quality.png"
    assert chart in files and (tmp_path / "report.html").read_text("utf-8").count("<img class") == 2
    assert "CIDEr-D by how good retrieval was" in table_text(with_groups)
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert len(metrics["retrieval_quality"]) == 8
    assert chart not in save_results(result, tmp_path, report_images=5) and not chart.exists()


def test_unknown_knowledge_base_leaves_categories_of_matches_out() -> None:
    """Quartiles remain, and a note gives the reason."""

    def fail() -> CaptionedImages:
        raise KnowledgeBaseError("kb: no such folder")

    class Others(Dogs):
        image_ids = (7,)

    class Unlisted(Dogs):
        image_ids = (100, 102, 900)

    objects = KnownObjects(SUBJECTS, make_instances())
    for opened, message in ((fail, "kb: no such folder"), (Others, "another knowledge base")):
        groups, notes = objects.group(make_images(), opened)
        assert [each.key for each in groups] == ["top_similarity"] and message in notes[0]
    assert len(objects.group(make_images(), Unlisted)[0]) == 3
    hidden = replace(objects, instances=Instances([], {}))
    assert "no instances file lists the images" in hidden.group(make_images(), Dogs)[1][0]
    assert KnownObjects().group(make_images(), fail) == (group_images(make_images()), [])


def test_images_without_ids_have_no_objects() -> None:
    """An index is no id: it would find the objects of another image."""
    dataset = replace(make_images(), has_ids=False)
    assert find_objects(dataset, []) == KnownObjects()
    with pytest.raises(DataError, match=r'a\.jsonl: no line has an "image_id", expected one in'):
        find_objects(dataset, [Path("instances.json")])


def test_instances_of_the_demo_are_found() -> None:
    """For the demo's data they are those of the split and of the knowledge base; else none."""
    folder = REPO_ROOT / "demo" / "coco" / "annotations"
    for words in ("--split val", "--captions demo/coco/annotations/captions_val.json --images ."):
        options = check_options(parse_arguments(words.split()))
        assert options.instances == (folder / "instances_val.json", folder / "instances_train.json")
    packed = REPO_ROOT / "demo" / "other" / "data" / "val.jsonl.gz"
    assert default_instances(packed) == [*options.instances]
    options = check_options(parse_arguments(["--split", "val", "--instances", "a", "b"]))
    assert options.instances == (Path("a"), Path("b"))
    assert check_options(parse_arguments(["--data", "a.jsonl"])).instances == ()


def test_coco_is_scored_by_its_instances(untrained: Evaluator, coco: CocoFolder) -> None:
    """With --instances the captions are scored by whether they name the main category."""
    data = json.loads(coco.captions.read_text("utf-8"))
    data["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "field"}]
    data["annotations"] = [
        {"image_id": image["id"], "category_id": 1 + image["id"] % 2, "bbox": [0, 0, 9, 9]}
        for image in data["images"]
    ]
    path = coco.captions.with_name("instances.json")
    path.write_text(json.dumps(data), encoding="utf-8")
    words = ("--captions", coco.captions, "--images", coco.images, "--instances", path)
    code, out, _ = untrained(*words, "--methods", "nearest,human")
    metrics = untrained.read("metrics.json")
    assert code == 0 and "names main category" in out
    assert metrics["methods"]["nearest"]["names_main_category"] == 1.0
    assert {each["by"] for each in metrics["retrieval_quality"]} <= {"match_category"}
