"""Makes golden.json: the scores and tokens of made-up captions by pycocoevalcap.

    python -m tests.igrag.metrics.make_golden

Needs pycocoevalcap (requirements-dev.txt), and Java for its tokenizer.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.compare_with_pycocoevalcap import java_tokens, random_captions, reference_scores
from igrag.config import REPO_ROOT
from igrag.data.coco import read_captions
from igrag.files import write_json
from igrag.metrics.tokens import tokenize_corpus

GOLDEN = Path(__file__).with_name("golden.json")
_IMAGES, _SAMPLE = 8, 24

# Forms that the demo captions do not have.
_ODD = {
    "mixed, with an empty caption and one to four references": (
        [
            "A brown dog runs across the green field.",
            "",
            "Two cats.",
            "a man rides a red horse on the beach near the sea",
        ],
        [
            [
                "A dog runs across a green field.",
                "The brown dog is running on the field.",
                "A dog.",
            ],
            ["A bus on a street."],
            ["Two cats sleep on a bed.", "Two cats.", "A pair of cats, lying down.", "Cats"],
            ["A man rides a horse on the beach.", "A man on a red horse near the sea."],
        ],
    ),
    "captions of fewer than four words among longer ones": (
        ["a dog", "a cat runs", "bus", "a dog runs fast now"],
        [
            ["a dog", "the dog runs"],
            ["a cat runs away", "cat"],
            ["a bus"],
            ["a dog runs fast now today", "dogs"],
        ],
    ),
    "nothing but captions of fewer than three words": (
        ["a dog", "cats"],
        [["a dog runs", "the dog"], ["two cats"]],
    ),
    "nothing but empty captions": (["", "!"], [["a dog"], ["a cat"]]),
    "captions longer than their references": (
        ["the the the the the the the", "a boat on the sea by the shore"],
        [["the cat is on the mat", "there is a cat on the mat"], ["a boat on the sea"]],
    ),
    "two references equally close in length: the shorter counts": (
        ["a b c d e", "f g"],
        [["a b c d e f", "a b c d"], ["f g h"]],
    ),
    "the same references for every image: no n-gram is rare": (
        ["a dog runs", "a cat"],
        [["a dog runs"], ["a dog runs"]],
    ),
    "a reference without a word": (
        ["a dog runs", "a cat"],
        [["!", "the dog runs"], ["a cat sits"]],
    ),
}

_TEXTS = (
    "A man's \"dog\", (run)  on\na half-pipe: it can't move...",
    "A dog runs. It has a ball. The ball is red.",
    "Two cats.. and a bird..",
    "The corner of Mill St. and Oak Ave. at night",
    "The U.S. flag flies at J. Miller's shop, e.g. on Sundays",
    "He says \"stop\"; she says 'go' -- and they don't!",
    "It's 3/4 full: 100% of 1,000 cups & 2 spoons for $5",
    "They're gonna cannot wanna, o'clock; the dogs' bowls",
    "A t-shirt - blue, white/red - hangs on a line @ home #1",
    "Un café “chaud” … it’s ‘hot’ – very — hot",
    "Stop!! A dog?!",
    "Item 1. A bed. item 2. two lamps",
    "",
    ".",
    "  A   bus\tstops .  ",
    # What COCO's captions and noisy model outputs have besides.
    "A multi- colored kite, half-pipe- and pro- or anti- -colored",
    "A cat with its .neck up. neck.. neck... neck.... ...neck",
    "22 3/4 inches and 1-1/2 on 5/6/2012, 10-20-99, 555-1234",
    "The numbers I. A I. and letter A. The man, B. Smith",
    "[stairs.] stairs.] {x} (y) <unk> </s> <3 [CLS] ##ing <|end|>",
    "No. 5 and no.5, he says no. Then fig. 3, figs and nos. 4",
    "On Jan. 4 in KY. and the ky. by Wash. or in the wash. with Miss. Lee, a miss.",
    "AT&T and at&t, R&D, A&B's, AT+T, S & P",
    "w/ a dog w/o it, and/or his/her/its a/b/c/d b/w, elephant/ on/off-road 24/7",
    "30° 20°C 5:54pm 5:54 pm 3pm 3.5mm 10x10 1st .5 -5 +5 5% $5 US$5 us$5 #1 5'10\"",
    "@home *star* **x** #tag me@foo.com www.foo.com/bar http://foo.org/x, foo.net",
    "dog.cat dog!cat dog,cat dog;cat dog:cat dog.9 9.cat dog., dog.' x-y. x-y., a_b a__b",
    "U.S. U.S u.s.a a.m. p.m. i.e., vs. approx. apt. sq. dept. blvd. lb. Mr Mr. T.V.",
    "don't DON'T don’t dont’s can't've y'all 'em 'n' rock'n'roll '90s '89 '9 O'Neil o'neil ma'am",
    "“quoted” ‘x’ «z» „v‟ `a` ``b'' '' ' 's n't 'd",
    "-- --- ---- ----- – — … . . .. !! ?! ?!? ~ ^ | \\ / // + = == _ __ # ## @@ * & && <> >>",
    "😀 dog😀cat ☀ ❤️ ☃ ½ ¼ ⅓ x² 5² © ® ™ €5 £5 ¢ 日本語 naïve 100\u00a0m \u200b",
    ":) :-( ;) :D =) :o) ^_^ :/ (: {} [] ()",
    "&amp; A&amp;B it&apos;s &quot;x&quot; a&nbsp;b",
    "THE KELVIN SIGN: K and Å, the ﬁne ſ",
    "A street with the letter K.",
    "A dog.",
)


def main() -> None:
    """Scores all cases, tokenizes all texts, and saves both."""
    sample = random_captions(_images(), _SAMPLE, Random(0))
    cases = _ODD | {"a sample of the demo captions": sample}
    tokens = [" ".join(words) for words in java_tokens(_TEXTS)]
    write_json(
        GOLDEN,
        {
            "made_with": f"pycocoevalcap {version('pycocoevalcap')}",
            "cases": {name: _score(*case) for name, case in cases.items()},
            "tokens": dict(zip(_TEXTS, tokens, strict=True)),
        },
    )


def _images() -> list[list[str]]:
    captions = REPO_ROOT / "demo" / "coco" / "annotations" / "captions_dev.json"
    return [list(image.captions) for image in read_captions(captions)[:_IMAGES]]


def _score(hypotheses: list[str], references: list[list[str]]) -> dict[str, Any]:
    scores = reference_scores(tokenize_corpus(hypotheses, references))
    return {
        "hypotheses": hypotheses,
        "references": references,
        "corpus": scores.corpus.tolist(),  # in the order of the benchmark's NAMES
        "images": scores.images.tolist(),
    }


if __name__ == "__main__":
    main()
