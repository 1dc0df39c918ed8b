"""Reading JSONL: what is accepted, and that everything else is told by file and line."""

import logging
from pathlib import Path

import pytest

from igrag.caption_data import CaptionExample, iter_examples
from igrag.errors import DataError

_GOOD = b'{"prompt": "p", "caption": "c"}\n'


def _write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    return path


def test_the_two_key_form_is_its_own_reference(tmp_path: Path) -> None:
    """Prompt and caption are enough; the caption is then the only reference."""
    assert list(iter_examples(_write(tmp_path, _GOOD))) == [CaptionExample("p", "c", ("c",))]


def test_the_full_form_is_read(tmp_path: Path) -> None:
    """References, image id and metadata come through."""
    line = (
        b'{"prompt": "p", "caption": "c", "references": ["c", "d"], "image_id": 7, '
        b'"metadata": {"k": 1}}'
    )
    (example,) = iter_examples(_write(tmp_path, line))
    assert example == CaptionExample("p", "c", ("c", "d"), 7, {"k": 1})


def test_bom_crlf_and_blank_lines_are_fine(tmp_path: Path) -> None:
    """Files from other systems are read as they are."""
    content = b"\xef\xbb\xbf" + _GOOD.replace(b"\n", b"\r\n") + b"\r\n  \n" + _GOOD.rstrip()
    assert len(list(iter_examples(_write(tmp_path, content)))) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "found a list, expected an object"),
        (b'{"prompt": "p"}', '"caption" is missing, found prompt'),
        (b'{"prompt": "p", "caption": ""}', '"caption" is empty'),
        (b'{"prompt": " ", "caption": "c"}', '"prompt" is empty'),
        (b'{"prompt": 3, "caption": "c"}', '"prompt" is a int, expected text'),
        (b'{"prompt": null, "caption": "c"}', '"prompt" is a NoneType'),
        (b'{"prompt": "p", "caption": "c", "references": "c"}', '"references" is not a list'),
        (b'{"prompt": "p", "caption": "c", "references": []}', '"references" is empty'),
        (b'{"prompt": "p", "caption": "c", "image_id": true}', '"image_id" is a bool'),
        (b'{"prompt": "p", "caption": "c", "metadata": 1}', '"metadata" is a int'),
        (b'{"prompt": "\xff", "caption": "c"}', "not UTF-8"),
        (rb'{"prompt": "\ud800", "caption": "c"}', "half a surrogate pair"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_bad_line_is_told_by_file_and_line(tmp_path: Path, line: bytes, message: str) -> None:
    """The error names the file, the line and what is wrong with it."""
    path = _write(tmp_path, _GOOD + b"\n" + line + b"\n")
    with pytest.raises(DataError) as error:
        list(iter_examples(path))
    assert str(error.value).startswith(f"{path}:3: ")
    assert message in str(error.value)


def test_bad_lines_can_be_skipped_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With skip_bad_lines the good lines come through and the log counts the others."""
    path = _write(tmp_path, _GOOD + b"{\n[]\n" + _GOOD)
    with caplog.at_level(logging.WARNING):
        assert len(list(iter_examples(path, skip_bad_lines=True))) == 2
    assert "2 bad lines skipped, 2 examples read" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    """A file without a single example is refused."""
    with pytest.raises(DataError, match="is empty"):
        list(iter_examples(_write(tmp_path, content)))


def test_only_bad_lines_are_an_error_even_when_skipped(tmp_path: Path) -> None:
    """Skipping everything is no data."""
    with pytest.raises(DataError, match="all 1 lines are bad"):
        list(iter_examples(_write(tmp_path, b"{\n"), skip_bad_lines=True))


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    """The error for a missing file names the command that builds it."""
    with pytest.raises(DataError, match="--build-data"):
        list(iter_examples(tmp_path / "none.jsonl"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder in place of the file is told as such."""
    with pytest.raises(DataError, match="cannot be read"):
        list(iter_examples(tmp_path))
