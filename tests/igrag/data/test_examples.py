"""Reading examples from JSONL, strictly."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from igrag.data.examples import CaptionExample, count_lines, iter_examples, split_file
from igrag.errors import DataError

GOOD = b'{"prompt": "p", "caption": "c"}'


def write(path: Path, *lines: bytes, end: bytes = b"\n") -> Path:
    """Writes lines to a file."""
    file = path / "data.jsonl"
    file.write_bytes(end.join(lines) + end)
    return file


def test_prompt_and_caption_are_enough(tmp_path: Path) -> None:
    """A line of prompt and caption is an example whose only reference is its caption."""
    assert list(iter_examples(write(tmp_path, GOOD))) == [CaptionExample("p", "c", ("c",))]


def test_every_key_of_a_line_is_read(tmp_path: Path) -> None:
    """References, image id and metadata come along; keys of others do no harm."""
    content = {
        "prompt": "ä\np",
        "caption": "c",
        "references": ["c", "", "d"],
        "image_id": 7,
        "metadata": {"split": "val"},
        "note": 1,
    }
    line = json.dumps(content, ensure_ascii=False).encode()
    example = CaptionExample("ä\np", "c", ("c", "d"), 7, {"split": "val"})
    assert list(iter_examples(write(tmp_path, line))) == [example]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"prompt": "p", "caption": ', "not valid JSON (Expecting value)"),
        (b"[" * 100_000, "not valid JSON (nested too deeply)"),
        (b'{"prompt": "p", "caption": "c", "n": ' + b"1" * 5000 + b"}", "a number is too long"),
        (b'["p", "c"]', "found a list, expected an object"),
        (b'"text"', "found a text, expected an object"),
        (b'{"prompt": "p", "captoin": "c"}', '"caption" is missing, found captoin, prompt'),
        (b'{"caption": "c"}', '"prompt" is missing, found caption'),
        (b"{}", '"caption" is missing, found nothing'),
        (b'{"prompt": "p", "caption": " \\n"}', '"caption" is empty'),
        (b'{"prompt": "", "caption": "c"}', '"prompt" is empty'),
        (b'{"prompt": 3, "caption": "c"}', '"prompt" is a number, expected text'),
        (b'{"prompt": "p", "caption": null}', '"caption" is null, expected text'),
        (b'{"prompt": "p", "caption": ["c"]}', '"caption" is a list, expected text'),
        (b'{"prompt": "p", "caption": "\xff"}', "not UTF-8 (byte 28 of the line)"),
        (b'{"prompt": "\\ud83d", "caption": "c"}', '"prompt" has half a surrogate pair'),
        (b'{"prompt": "p", "caption": "c\\udc00"}', '"caption" has half a surrogate pair'),
        (GOOD[:-1] + b', "references": ["\\ud83d"]}', '"references" has half a surrogate pair'),
        (GOOD[:-1] + b', "references": "c"}', '"references" is not a list of texts'),
        (GOOD[:-1] + b', "references": [1]}', '"references" is not a list of texts'),
        (GOOD[:-1] + b', "references": []}', '"references" is empty'),
        (
            GOOD[:-1] + b', "image_id": 1.5}',
            '"image_id" is a number, expected a whole number or text',
        ),
        (GOOD[:-1] + b', "image_id": true}', '"image_id" is a boolean'),
        (GOOD[:-1] + b', "image_id": "\\udc00"}', '"image_id" has half a surrogate pair'),
        (GOOD[:-1] + b', "metadata": []}', '"metadata" is a list, expected an object'),
    ],
)
def test_invalid_line_is_named_with_file_and_line(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    """The error names the file and the line, counted from 1."""
    file = write(tmp_path, GOOD, b"", line, GOOD)
    examples = iter_examples(file)
    assert next(examples).prompt == "p"
    with pytest.raises(DataError) as caught:
        next(examples)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert problem in str(caught.value)


def test_complete_surrogate_pair_is_accepted(tmp_path: Path) -> None:
    """An emoji written as JSON's two escapes is fine."""
    line = b'{"prompt": "\\ud83d\\ude00", "caption": "c"}'
    assert next(iter_examples(write(tmp_path, line))).prompt == "\N{GRINNING FACE}"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\r\n \t\r\n"])
def test_line_ends_blank_lines_and_bom_are_accepted(tmp_path: Path, end: bytes) -> None:
    """A byte order mark, CRLF and blank lines change nothing."""
    file = write(tmp_path, b"\xef\xbb\xbf" + GOOD, GOOD, end=end)
    assert [example.caption for example in iter_examples(file)] == ["c", "c"]


def test_last_line_needs_no_line_end(tmp_path: Path) -> None:
    """A file that does not end with a line end is read to its last line."""
    file = tmp_path / "data.jsonl"
    file.write_bytes(GOOD + b"\n" + GOOD)
    assert len(list(iter_examples(file))) == 2


def test_invalid_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """With skip_bad_lines the good ones are read, with their places; blank lines count nowhere."""
    file = write(tmp_path, b"\xef\xbb\xbf", b"{", GOOD, b"\xff", b" ", b"[]", GOOD)
    assert [example.line for example in iter_examples(file, skip_bad_lines=True)] == [3, 7]
    assert count_lines(file) == 5


@pytest.mark.parametrize(
    ("lines", "skip", "problem"),
    [
        ((), False, "is empty"),
        ((b"", b" "), False, "is empty"),
        ((b"{", b"["), True, "all 2 lines are bad"),
    ],
)
def test_file_without_examples_is_an_error(
    tmp_path: Path, lines: tuple[bytes, ...], skip: bool, problem: str
) -> None:
    """Nothing to train on is an error that shows what lines look like."""
    with pytest.raises(DataError, match=problem) as caught:
        list(iter_examples(write(tmp_path, *lines), skip_bad_lines=skip))
    assert '{"prompt": "...", "caption": "..."}' in str(caught.value)


def test_missing_file_error_names_the_command_that_builds_it(tmp_path: Path) -> None:
    """A missing file's error names it and the command that builds it."""
    with pytest.raises(DataError, match=r"nothing.jsonl: no such file.*data_builder"):
        list(iter_examples(tmp_path / "nothing.jsonl"))


def test_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    """The error for a folder names it."""
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        list(iter_examples(tmp_path))


def test_compressed_file_has_the_same_examples(tmp_path: Path) -> None:
    """A .jsonl.gz is read as the file that was compressed."""
    line = json.dumps({"prompt": "p", "caption": "c"}) + "\n"
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text(2 * line, encoding="utf-8")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(iter_examples(packed)) == list(iter_examples(plain))
    assert count_lines(packed) == 2


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: b"{}\n"])
def test_damaged_compressed_file_is_an_error(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """A .jsonl.gz that was cut off, or is no gzip file, is named."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(damage(gzip.compress(b'{"prompt": "p", "caption": "c"}\n' * 50)))
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: not a whole gzip file"):
        list(iter_examples(path))


def test_split_may_be_compressed(tmp_path: Path) -> None:
    """A folder's split is SPLIT.jsonl, or SPLIT.jsonl.gz if only that is there."""
    assert split_file(tmp_path, "val") == tmp_path / "val.jsonl"
    (tmp_path / "val.jsonl.gz").touch()
    assert split_file(tmp_path, "val") == tmp_path / "val.jsonl.gz"
    (tmp_path / "val.jsonl").touch()
    assert split_file(tmp_path, "val") == tmp_path / "val.jsonl"
