"""igrag doctor: what the machine has, as text and as JSON."""

import json

import pytest

from igrag.commands import doctor
from igrag.devices import DtypeRace


def test_everything_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Versions, devices, the precision with its race, disk and optional parts."""
    assert doctor.command([]) == 0
    text = capsys.readouterr().out
    for word in ("torch", "threads", "dtype: auto", "race on the CPU", "GiB free", "igrag sweep"):
        assert word in text


def test_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """One object, by title and name."""
    assert doctor.command(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["versions", "devices", "precision", "disk", "optional"]
    assert found["precision"]["dtype: auto"] in ("float32", "bfloat16")


def test_race_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time of both types."""
    monkeypatch.setattr("igrag.devices.race_on_cpu", lambda: DtypeRace(2e-4, 5e-5))
    assert doctor.examine()["precision"]["race on the CPU"] == "float32 200 us, bfloat16 50 us"


def test_missing_parts_name_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there can be installed by the line that is shown."""
    monkeypatch.setitem(doctor.OPTIONAL, "no_such_part", "nothing")
    found = doctor.examine()["optional"]["no-such-part"]
    assert found == "missing: pip install no-such-part (nothing)"
