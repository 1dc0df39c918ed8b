"""Configuration files: what is accepted, and the one line of errors otherwise."""

from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from pydantic import Field

from igrag.config import (
    DEFAULT_CONFIG,
    REPO_ROOT,
    Config,
    ConfigPath,
    ModelReference,
    PromptTuningConfig,
    Section,
    find_model,
    load_config,
    load_yaml,
    portable,
    quote,
    resolve_path,
)
from igrag.config.paths import default_examples, project_root
from igrag.errors import ConfigError


class Inner(Section):
    """A section for the tests."""

    rate: float = Field(description="Learning rate.")
    steps: int = Field(default=3, description="Steps.")
    on: bool = Field(default=True, description="A switch.")
    word: str = Field(default="a", description="A word.")
    file: ConfigPath | None = Field(default=None, description="A file.")
    encoder: ModelReference | None = Field(default=None, description="A model.")
    seed: int | list[int] = Field(default=1, description="One or more.")


class Outer(Section):
    """A file for the tests."""

    training: Inner = Field(description="The training.")
    named: dict[str, Inner] = Field(default_factory=dict, description="More of them.")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a test's YAML file."""
    return tmp_path / "test.yaml"


def load(file: Path, text: str, *overrides: str) -> Inner:
    """Loads a file of the given text."""
    file.write_text(text, encoding="utf-8")
    return load_config(Outer, file, overrides).training


def fail(file: Path, text: str, *overrides: str) -> str:
    """Loads a file that is wrong and return the message."""
    with pytest.raises(ConfigError) as caught:
        load(file, text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(file), "FILE")


def test_exponent_without_point_is_a_number(file: Path) -> None:
    """1e-4 is a number, as YAML 1.2 has it, and not the text that PyYAML makes of it."""
    assert load(file, "training: {rate: 1e-4}").rate == 1e-4
    assert load(file, "training: {rate: 1}", "training.rate=3E5").rate == 3e5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("010", 10),
        ("-7", -7),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".5", 0.5),
        ("1.", 1.0),
        ("+1e3", 1000.0),
        ("'1'", "1"),
        ("1e-4x", "1e-4x"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(file: Path, text: str, value: object) -> None:
    """Switches, octal numbers, times and dates of YAML 1.1 are just text or decimal numbers."""
    file.write_text(f"key: {text}\n")
    read = load_yaml(file)["key"]
    assert read == value
    assert type(read) is type(value)


def test_byte_order_mark_and_crlf_are_fine(file: Path) -> None:
    """A file saved by a Windows editor is read like any other."""
    file.write_bytes(b"\xef\xbb\xbftraining:\r\n  rate: 2\r\n")
    assert load_config(Outer, file).training.rate == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "FILE: is empty, expected sections with keys (see configs/config.yaml)"),
        ("# only a comment\n", "FILE: is empty, expected sections with keys"),
        ("- a\n", "FILE: found a list, expected sections with keys"),
        ("training", "FILE: found a str, expected sections with keys"),
        ("training:\n  rate: [1\n", "FILE:3: not valid YAML: "),
        ("training:\n\trate: 1\n", "FILE:2: not valid YAML: "),
        ("a: b: c", "FILE:1: not valid YAML: mapping values are not allowed here"),
        ("training: !!python/name:os.system\n", "FILE:1: not valid YAML: could not determine"),
        ("training:\n  word: \x07\n", "FILE:2: not valid YAML: special characters"),
        ("a: 1\n---\na: 2\n", "FILE:2: not valid YAML: "),
        ("[" * 5000, "FILE:1: found more than 50 levels, expected sections with keys"),
        ("training: {steps: " + "9" * 5000 + "}", "FILE: not valid YAML: "),
    ],
)
def test_file_that_is_no_configuration(file: Path, text: str, message: str) -> None:
    """An empty file, YAML that is no mapping, and invalid YAML are errors with their line."""
    assert fail(file, text).startswith(message)


def test_alias_inside_itself_is_no_endless_loop(file: Path) -> None:
    """A mapping that holds itself is refused, with the line of its anchor."""
    assert "FILE:1: found an anchor with an alias of itself" in fail(
        file, "training: &a\n  rate: 1\n  again: *a\n"
    )


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, a folder and another encoding are named, with the fix where one is known."""
    (tmp_path / "config.yaml").write_bytes("word: Bär".encode("latin-1"))
    for path, message in (
        (tmp_path / "confg.yaml", r"confg\.yaml: no such file, did you mean config\.yaml\?"),
        (tmp_path / "zzz" / "x", "x: no such file, expected a YAML configuration"),
        (tmp_path, "is a folder, expected a YAML file"),
        (tmp_path / "config.yaml", r"config\.yaml: is not UTF-8 \(byte 7\).*save it as UTF-8"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_yaml(path)


def test_duplicate_key_names_both_lines(file: Path) -> None:
    """PyYAML would keep the last of two silently."""
    message = fail(file, "training:\n  rate: 1\n  steps: 2\n  rate: 3\n")
    assert message == "FILE:4: duplicate key training.rate, first on line 2; keep one"
    with pytest.raises(ConfigError, match=r":4: duplicate key training\.rate"):
        load_yaml(file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("steps: many", 'training.steps: found "many", expected an integer'),
        ("steps: '5'", 'training.steps: found "5", expected an integer'),
        ("steps: 1.5", "training.steps: found 1.5, expected an integer"),
        ("steps: true", "training.steps: found true, expected an integer"),
        ("steps:", "training.steps: found null, expected an integer"),
        ("on: 1", "training.on: found 1, expected true or false"),
        ("on: yes", 'training.on: found "yes", expected true or false'),
        ("word: 5", "training.word: found 5, expected text; quote it"),
        ("file: 5", "training.file: found 5, expected a path"),
        ("file: ''", 'training.file: found "", expected a path'),
        ("seed: x", 'training.seed: found "x", expected an integer or a list'),
        ("seed: [1, x]", "training.seed: found [1, "),
        ("stpes: 5", "training.stpes: unknown key, did you mean steps?"),
        ("training: 5", "training.training: unknown key, did you mean training?"),
        ("zzz: 5", "training.zzz: unknown key, expected one of rate, steps, on, word, "),
        ("1: 5", "training.1: "),
    ],
)
def test_wrong_value(file: Path, line: str, message: str) -> None:
    """The file, line, key, what was found and what was expected."""
    assert fail(file, f"training:\n  rate: 1\n  {line}\n").startswith(f"FILE:3: {message}")


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_are_finite(file: Path, value: str) -> None:
    """Not a number and infinity are never meant."""
    message = fail(file, f"training: {{rate: {value}}}")
    assert message.startswith("FILE:1: training.rate: found ")
    assert message.endswith("expected a finite number")


def test_missing_key_is_described(file: Path) -> None:
    """What a missing key is for stands in the message, with the line of its section."""
    message = fail(file, "# a comment\ntraining:\n  steps: 1\n")
    assert message == "FILE:2: training.rate: missing, expected: Learning rate"


def test_key_in_the_wrong_section(file: Path) -> None:
    """A key that belongs elsewhere is sent there."""
    message = fail(file, "training: {rate: 1}\nsteps: 5\n")
    assert message == "FILE:2: steps: unknown key, did you mean training.steps?"


def test_misspelt_section(file: Path) -> None:
    """A misspelt section is an unknown key, next to the one that is then missing."""
    message = fail(file, "trainig: {rate: 1}\n")
    assert "FILE:1: trainig: unknown key, did you mean training?" in message
    assert "FILE: training: missing, expected: The training" in message


def test_sections_with_free_names(file: Path) -> None:
    """Inside a mapping with names of the user's own the keys are checked too."""
    message = fail(file, "training: {rate: 1}\nnamed:\n  mine: {rate: 1, stpes: 2}\n")
    assert message == "FILE:3: named.mine.stpes: unknown key, did you mean steps?"


def test_all_problems_at_once(file: Path) -> None:
    """All mistakes of the file and of the command line are in one error."""
    text = "training:\n  steps: x\n  steps: y\n  wrd: b\n"
    message = fail(file, text, "training.on=5", "training.word")
    assert message.split("; ")[0].startswith("FILE:3: duplicate key training.steps")
    for part in (
        "--set training.word: expected section.key=value",
        'training.steps: found "y"',
        "FILE:4: training.wrd: unknown key, did you mean word?",
        "--set training.on: found 5, expected true or false",
        "training.rate: missing",
    ):
        assert part in message


def test_long_values_are_cut(file: Path) -> None:
    """A long text that is wrong does not fill the screen."""
    assert len(fail(file, f"training: {{rate: {'x' * 5000}}}")) < 200


def test_overrides_win(file: Path) -> None:
    """--set replaces keys of the file, adds others, and the last one wins."""
    text = "training:\n  rate: 1\n"
    training = load(file, text, "training.rate=0.5", "training.rate=1e-4", "training.seed=[1, 2]")
    assert training.rate == 1e-4
    assert training.seed == [1, 2]
    assert load(file, text, "training.word=a=b").word == "a=b"
    assert load(file, text, "training.word='5'").word == "5"


@pytest.mark.parametrize(
    "text", ["2026", "null", "run #2", 'a "b"', "c\\d", "e \U0001f600", "f\udcff"]
)
def test_quoted_text_is_read_as_it_is(text: str) -> None:
    """Whatever it looks like in YAML: emoji, and bytes that are no UTF-8, too."""
    assert yaml.safe_load(quote(text)) == text


def test_override_in_an_empty_section(file: Path) -> None:
    """A section that the file leaves empty can be filled from the command line."""
    assert load(file, "training:\n", "training.rate=2").rate == 2.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.rte=1", "--set training.rte: unknown key, did you mean rate?"),
        ("trainig.rate=1", "--set trainig: unknown key, did you mean training?"),
        ("rate=1", "--set rate: unknown key, did you mean training.rate?"),
        ("training.steps=x", '--set training.steps: found "x", expected an integer'),
        ("training=5", "--set training: found 5, expected a section with keys"),
        ("training.rate.x=5", "--set training.rate.x=5: training.rate is a value, expected a"),
        ("training.rate", "--set training.rate: expected section.key=value"),
        ("=5", "--set =5: expected section.key=value"),
        ("training..rate=5", "--set training..rate=5: expected section.key=value"),
        ("training.seed=[1", "--set training.seed=[1: the value is not valid YAML; quote it"),
        ("training.seed=" + "[" * 5000, "--set training.seed=[["),
        ("training.steps=" + "9" * 5000, "--set training.steps=999"),
    ],
)
def test_wrong_override(file: Path, override: str, message: str) -> None:
    """An error names --set for a mistake on the command line, not the file."""
    assert fail(file, "training:\n  rate: 1\n", override).startswith(message)


def test_relative_paths_count_from_the_project_or_the_cwd(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in a YAML count from its project's root, else from the cwd; typed ones from the cwd."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = "training: {rate: 1, file: a/b}"
    assert load(file, text).file == tmp_path / "elsewhere" / "a" / "b"
    project_root.cache_clear()
    (tmp_path / "pyproject.toml").touch()
    assert load(file, text).file == tmp_path / "a" / "b"
    assert load(file, text, "training.file=a/b").file == tmp_path / "elsewhere" / "a" / "b"
    assert load(file, text, f"training={{rate: 1, file: {tmp_path}/c}}").file == tmp_path / "c"
    assert load(file, text, "training={rate: 1, file: c}").file == tmp_path / "elsewhere" / "c"
    assert resolve_path("configs") == REPO_ROOT / "configs"


def test_relative_default_counts_from_the_project(tmp_path: Path) -> None:
    """The default of a path is found where the same text in the file would be."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "config.yaml").write_text(f"base: {DEFAULT_CONFIG}\nlog_config: {{file: a.log}}\n")
    config = Config.load(tmp_path / "config.yaml")
    assert config.log_config.file == tmp_path / "a.log"
    assert config.knowledge_base_config.path == REPO_ROOT / "demo" / "knowledge_base"


class NewNames(Section):
    """A section with keys that had other names."""

    renamed: ClassVar = {"rate": "learning_rate"}
    learning_rate: float = Field(default=1.0, description="Learning rate.")


class NewOuter(Section):
    """A file with a section that had another name."""

    renamed: ClassVar = {"train": "training"}
    training: NewNames = Field(default_factory=NewNames, description="The training.")


def load_renamed(file: Path, text: str, *overrides: str) -> float:
    """Loads a file of the given text with the new names."""
    file.write_text(text)
    return load_config(NewOuter, file, overrides).training.learning_rate


def test_earlier_names_of_keys_are_read_with_a_note(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of an earlier version loads; one note for each key names its line and its new name."""
    assert load_renamed(file, "train: {rate: 3}") == 3.0
    assert capsys.readouterr().err.splitlines() == [
        f"note: {file}:1: train is called training now; rename it",
        f"note: {file}:1: training.rate is called learning_rate now; rename it",
    ]
    assert load_renamed(file, "training: {learning_rate: 3}", "train.rate=4") == 4.0
    assert load_renamed(file, "train:\n  rate: 3\n", "training.learning_rate=4") == 4.0


def test_both_names_of_a_key_are_an_error(file: Path) -> None:
    """Which of the two counts is not guessed; errors below an earlier name have their line."""
    with pytest.raises(ConfigError) as caught:
        load_renamed(file, "training: {learning_rate: x}\ntrain: {rate: 3}\n")
    assert str(caught.value).replace(str(file), "FILE").split("; ") == [
        "FILE:2: train: is called training now, which is there too",
        "keep training alone",
        'FILE:1: training.learning_rate: found "x", expected a number',
    ]
    with pytest.raises(ConfigError, match=r':2: training\.learning_rate: found "x"'):
        load_renamed(file, "train:\n  rate: x\n")


def test_base_is_merged_below_the_file(file: Path, tmp_path: Path) -> None:
    """A file changes a few keys of another one, which is named from its own folder."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "first.yaml").write_text("training: {rate: 1, steps: 7, word: a}")
    (tmp_path / "below" / "second.yaml").write_text("base: first.yaml\ntraining: {word: b}")
    training = load(file, "base: below/second.yaml\ntraining: {rate: 2}\n", "training.seed=5")
    assert (training.rate, training.steps, training.word, training.seed) == (2.0, 7, "b", 5)


def test_errors_name_the_file_where_the_key_stands(file: Path, tmp_path: Path) -> None:
    """A wrong value of the base is reported with the base's line, one above it with its own."""
    base = tmp_path / "base.yaml"
    base.write_text("training:\n  rate: x\n  steps: y\n")
    message = fail(file, "base: base.yaml\ntraining:\n  steps: z\n  stpes: 1\n")
    assert message.replace(str(base), "BASE").split("; ") == [
        'BASE:2: training.rate: found "x", expected a number',
        'FILE:3: training.steps: found "z", expected an integer',
        "FILE:4: training.stpes: unknown key, did you mean steps?",
    ]


def test_wrong_bases_are_errors(file: Path, tmp_path: Path) -> None:
    """A missing base, a circle and what is no path are errors on the line that names them."""
    (tmp_path / "other.yaml").write_text("training: {rate: 1}\nbase: test.yaml")
    for base, message in (
        ("none.yaml", f"FILE:1: base: {tmp_path}/none.yaml: no such file, expected a path from"),
        ("other.yaml", "/other.yaml:2: base: FILE is based on this file itself; remove one base"),
        ("test.yaml", "FILE:1: base: FILE is based on this file itself"),
        ("5", "FILE:1: base: found 5, expected the path of a YAML file"),
    ):
        assert message in fail(file, f"base: {base}\n")


def test_home_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading ~ is the home folder; that of an unknown user is refused."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(file, "training: {rate: 1, file: ~/a}").file == tmp_path / "a"
    message = fail(file, "training: {rate: 1, file: ~no-such-user/a}")
    assert message.endswith("expected a path under the home of a known user")


def test_model_is_a_folder_or_a_hub_id(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An existing folder becomes absolute, as what is no hub id; a hub id stays as it is."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    text = "training: {rate: 1, encoder: owner/name}"
    assert load(file, text).encoder == "owner/name"
    assert load(file, text, "training.encoder=mine").encoder == str(tmp_path / "mine")
    text = "training: {rate: 1, encoder: mine}"
    assert load(file, text).encoder == str(tmp_path / "mine")
    assert load(file, "training: {rate: 1, encoder: no/such/folder}").encoder == str(
        tmp_path / "no" / "such" / "folder"
    )


def test_prompt_tuning_block_has_default_paths(file: Path) -> None:
    """`weights_path` may be left out: it is where the training puts the best prompt."""
    file.write_text(
        f"base: {DEFAULT_CONFIG}\n"
        "prompt_tuning: {enabled: true, prompt_length: 20, initialization: random}\n"
    )
    folder = REPO_ROOT / "prompt_tuning" / "checkpoints"
    for config in (Config.load(file), Config.load()):
        prompts = config.prompt_tuning
        assert prompts.weights_path == folder / "best_model" / "prompt_embeddings.pt"
        with_lora = folder / "with_lora" / "best_model" / "prompt_embeddings.pt"
        assert prompts.weights_path_with_lora == with_lora
    block = PromptTuningConfig.model_validate({}, context={"root": file.parent})
    assert (
        block.weights_path
        == file.parent / "prompt_tuning/checkpoints/best_model/prompt_embeddings.pt"
    )


def test_default_configuration() -> None:
    """The default is the demo, from the repo root, with soft prompt and LoRA off."""
    config = Config.load()
    assert config.knowledge_base_config.path == REPO_ROOT / "demo" / "knowledge_base"
    assert not config.lora_config.enabled
    assert not config.prompt_tuning.enabled
    assert (config.prompt_tuning.prompt_length, config.prompt_tuning.initialization) == (
        20,
        "random",
    )


def test_switched_off_weights_need_not_exist() -> None:
    """weights_path names where trained weights will be; nothing is there before the training."""
    config = Config.load(DEFAULT_CONFIG, ["prompt_tuning.weights_path=no/such/file.pt"])
    assert config.prompt_tuning.weights_path == Path.cwd() / "no" / "such" / "file.pt"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retrieval_config.top_k=0", "found 0, expected greater than 0"),
        ("model_config.device=gpu", 'found "gpu", expected auto, cpu, cuda, cuda:N or mps'),
        ("model_config.dtype=int8", "expected 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("model_config.default=t5", r'^--set \S+default: found "t5", expected one of .*flan-t5'),
        (
            "model_config.models={a: {path: b}}",
            r'default: found "flan-t5", expected one of .*\(a\)',
        ),
        ("retrieval_config.encoder=''", 'encoder: found "", expected a model\'s folder or hub id'),
        ("model_config.models.x.path=' '", r"x\.path: found \" \", expected a model's folder"),
        ("knowledge_base_config.path=''", 'path: found "", expected a path'),
        ("prompt_config.instruction=' '", "expected text that is not empty"),
        ("generation_config.max_new_tokens=1000000", "expected less than or equal to 1024"),
        ("generation_config.seed=-1", "expected greater than or equal to 0"),
        ("generation_config.seed=99999999999", "expected less than 4294967296"),
        ("model_config.models.x={notice: a}", r"model_config\.models\.x\.path: missing, expected"),
        ("prompt_config.objects.source=instances", "expected instances_path to be set"),
        ("prompt_config.objects.source=detector", "expected detector to be set"),
        ("models.default=a", "--set models: unknown key, did you mean model_config"),
    ],
)
def test_keys_of_the_pipeline(override: str, message: str) -> None:
    """Values that no part of the pipeline can use are refused before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        Config.load(DEFAULT_CONFIG, [override])


def test_template_errors_are_reported_with_all_others() -> None:
    """Wrong placeholders are found while the configuration is read, whatever else is wrong."""
    overrides = [
        "prompt_config.template=x {caption}",
        "prompt_config.caption_line=x",
        "prompt_config.objects.line=x {label}",
        "model_config.device=gpu",
    ]
    with pytest.raises(ConfigError) as caught:
        Config.load(overrides=overrides)
    problems = str(caught.value).split("; --set ")
    assert [problem.removeprefix("--set ").split(":")[0] for problem in problems] == [
        "model_config.device",
        "prompt_config.template",
        "prompt_config.caption_line",
        "prompt_config.objects.line",
    ]
    assert problems[1].endswith(
        'found "x {caption}", expected text with {instruction} and {captions}, perhaps {objects} '
        "({instruction} is missing; {captions} is missing; unknown placeholder {caption})"
    )
    assert problems[3].endswith("expected text with {label} and {position} ({position} is missing)")


def test_objects_need_their_placeholder() -> None:
    """A source of objects without {objects} is found too, next to the mistakes of other keys."""
    overrides = [
        "prompt_config.template='{instruction} {captions}'",
        "prompt_config.caption_line=x",
        "prompt_config.objects.source=detector",
        "prompt_config.objects.detector=some/detr",
    ]
    with pytest.raises(ConfigError) as caught:
        Config.load(overrides=overrides)
    expected = "expected {objects} in prompt_config.template, as source is detector"
    assert expected in str(caught.value)
    assert "prompt_config.caption_line" in str(caught.value)
    Config.load(overrides=overrides[:1])  # Without a source it need not be there.


def test_model_may_be_called_anything() -> None:
    """A name that no folder can have stays as it is, for the hub to refuse."""
    overrides = [f"retrieval_config.encoder={'a' * 5000}"]
    assert Config.load(overrides=overrides).retrieval_config.encoder == "a" * 5000


def test_model_by_name() -> None:
    """--model means an entry of the config first; without it the default entry counts."""
    models = Config.load().models
    entry = models.models["flan-t5"]
    assert find_model(models, None) == entry
    assert find_model(models, "flan-t5") == entry
    assert entry.notice


def test_model_by_folder_or_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other existing folder, from where it is typed, or a hub id works too."""
    (tmp_path / "my-t5").mkdir()
    monkeypatch.chdir(tmp_path)
    models = Config.load().models
    assert find_model(models, "my-t5").path == str(tmp_path / "my-t5")
    assert find_model(models, "google/flan-t5-small").path == "google/flan-t5-small"
    assert find_model(models, "google/flan-t5-small").notice is None


@pytest.mark.parametrize(
    "name",
    ["flan-t6", "./missing/t5", "/missing", "a/b/c", "", "a b/c", "~nobodyhere/x", "a" * 5000],
)
def test_unknown_model(name: str) -> None:
    """What is no entry, folder or hub id is refused with the names that exist."""
    with pytest.raises(ConfigError, match="expected one of flan-t5, an existing folder") as caught:
        find_model(Config.load().models, name)
    assert ("did you mean flan-t5?" in str(caught.value)) == (name == "flan-t6")


def test_names_are_portable() -> None:
    """On record, what lies in the repository is named from its root, all else as it is."""
    assert portable(str(REPO_ROOT / "demo" / "models" / "t5-mini")) == "demo/models/t5-mini"
    assert portable("google/flan-t5-base") == "google/flan-t5-base"
    assert portable(Path("/elsewhere/t5")) == "/elsewhere/t5"
    plain = Config.load(DEFAULT_CONFIG).to_plain(include={"lora_config", "log_config"})
    assert plain["lora_config"]["weights_path"] == "lora_training/checkpoints/best"
    assert set(plain) == {"lora_config", "log_config"}


def test_default_examples_are_the_demo_until_data_are_built(tmp_path: Path) -> None:
    """Anything of a build makes its folder the default for both splits."""
    demo = REPO_ROOT / "demo" / "data"
    assert default_examples("train", tmp_path) == demo / "train.jsonl"
    assert default_examples("val", tmp_path / "none") == demo / "val.jsonl"
    (tmp_path / "val.jsonl").touch()
    assert default_examples("train", tmp_path) == tmp_path / "train.jsonl"
    assert default_examples("val", tmp_path) == tmp_path / "val.jsonl"
