"""Prompts and adapters on the hub: fetched once, and what the errors say; uploads."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from igrag.errors import CheckpointError, OutputError, UsageError
from igrag.files import may_be_hub_id
from igrag.hub import CARD_NAME, fetch, upload
from tests.hub_server import LocalHub

FILE = "weights.safetensors"
PROMPT = Path("user/prompt")


@pytest.fixture(autouse=True)
def uploaded(hub: LocalHub) -> None:
    """Puts one repository on the hub."""
    hub.files["user/prompt"] = {FILE: b"numbers", CARD_NAME: b"# Mine"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user/prompt", True),
        ("user/prompt-v1.5@main", True),
        ("prompt", False),
        ("a/b/c", False),
        ("/user/prompt", False),
        ("../prompt", False),
        ("user/prompt.pt", False),
        ("user/..", False),
    ],
)
def test_hub_ids_are_distinguished_from_paths(text: str, expected: bool) -> None:
    """An id has an owner and a name; what ends like a file is a path."""
    assert may_be_hub_id(text) is expected
    assert may_be_hub_id(Path(text)) is expected


def test_local_paths_are_left_alone(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that exists is used, though it could be an id; one that is no id is not looked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / PROMPT).mkdir(parents=True)
    assert fetch(PROMPT, (FILE,)) == PROMPT
    assert fetch(Path("/none/prompt.pt"), (FILE,)) == Path("/none/prompt.pt")
    assert hub.calls == []


def test_fetched_files_come_from_the_cache_the_second_time(hub: LocalHub) -> None:
    """Only the named files are downloaded; the cache also knows that an optional one is missing."""
    folder = fetch(PROMPT, (FILE,), optional=("base_model.json",))
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert (folder / FILE).read_bytes() == b"numbers"
    hub.calls.clear()
    assert fetch(PROMPT, (FILE,), optional=("base_model.json",)) == folder
    assert hub.calls == []


def test_cache_is_used_where_the_hub_cannot_be_reached(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optional file that was never asked for is no reason to fail offline."""
    folder = fetch(PROMPT, (FILE,))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(PROMPT, (FILE,), optional=("base_model.json",)) == folder


def test_revision_is_fetched(hub: LocalHub) -> None:
    """An older commit is loaded by its name after the @."""
    sha = hub.sha("user/prompt")
    folder = fetch(Path(f"{PROMPT}@{sha}"), (FILE,))
    assert folder.name == sha and (folder / FILE).is_file()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("user/none", "user/none: no such file or folder, and the hub has no such repository, or a "
         "private one; correct the name, or log in with hf auth login or set HF_TOKEN"),
        ("user/gated", "user/gated: is gated on the hub; ask for access on its page there"),
        ("user/prompt@v9", "user/prompt@v9: the hub has no revision v9 of it; name a branch"),
        ("user/other", "user/other: found README.md on the hub, expected weights.safetensors"),
    ],
)  # fmt: skip
def test_error_names_what_the_hub_lacks(hub: LocalHub, path: str, expected: str) -> None:
    """Not found, gated, no such revision, and the repository of something else."""
    hub.files |= {"user/gated": {FILE: b"1"}, "user/other": {CARD_NAME: b"# x"}}
    hub.gated.add("user/gated")
    with pytest.raises(CheckpointError) as caught:
        fetch(Path(path), (FILE,))
    assert str(caught.value).startswith(expected)


def test_error_offline_names_cache_and_fix(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network and without a copy there is nothing to load."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        fetch(PROMPT, (FILE,))
    start, end = "user/prompt: no such file or folder, not in the hub's local cache", "a local path"
    assert str(caught.value).startswith(start) and str(caught.value).endswith(end)
    assert hub.calls == []


def test_upload_keeps_a_card_that_is_there(hub: LocalHub) -> None:
    """The owner may have edited it: it is replaced only when asked."""
    files: dict[str, Path | bytes] = {FILE: b"more", CARD_NAME: b"# New"}
    url, has_card = upload(files, "user/prompt", private=False, message="again")
    assert url == f"{hub.url}/user/prompt" and not has_card
    assert hub.files["user/prompt"] == {FILE: b"more", CARD_NAME: b"# Mine"}
    upload(files, "user/prompt", private=False, message="again", replace_card=True)
    assert hub.files["user/prompt"][CARD_NAME] == b"# New"


def test_private_upload_is_never_public(hub: LocalHub) -> None:
    """A new repository is private; one that is public is refused before anything is sent."""
    upload({FILE: b"1"}, "user/mine", private=True, message="first")
    assert "user/mine" in hub.private
    with pytest.raises(UsageError, match="user/prompt: exists and is public, expected a private"):
        upload({FILE: b"secret"}, "user/prompt", private=True, message="first")
    assert hub.files["user/prompt"][FILE] == b"numbers"


def test_upload_errors_are_one_line(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No id, no token, and no network."""
    with pytest.raises(UsageError, match="prompt: found no hub id, expected owner/name"):
        upload({FILE: b"1"}, "prompt", private=False, message="first")
    hub.token = "another"
    with pytest.raises(OutputError, match="the hub does not know who you are; log in with"):
        upload({FILE: b"1"}, "user/new", private=False, message="first")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OutputError, match="user/new: cannot be pushed: the hub cannot be reached"):
        upload({FILE: b"1"}, "user/new", private=False, message="first")
    assert HfApi().endpoint == hub.url  # Nothing of this reached the real one.
