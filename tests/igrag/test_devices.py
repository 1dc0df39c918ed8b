"""The dtype that `auto` chooses: what the machine is faster with."""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]

from igrag import devices
from igrag.devices import agree_on_dtypes, auto_dtype, fastest_dtype, race_on_cpu, resolve_dtype
from igrag.processes import Processes, Ranks
from igrag.training.precision import resolve_mixed_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Nothing that was measured before a test counts in it, or after it."""
    for remembered in (fastest_dtype, race_on_cpu):
        remembered.cache_clear()
    yield
    for remembered in (fastest_dtype, race_on_cpu):
        remembered.cache_clear()


def machine(monkeypatch: pytest.MonkeyPatch, *, amx: bool, bfloat16_takes: float) -> list[str]:
    """Makes a CPU where a product in float32 takes 1 s; returns the products that it runs."""
    runs: list[str] = []

    def product(dtype: torch.dtype) -> float:
        runs.append(str(dtype))
        return bfloat16_takes if dtype == torch.bfloat16 else 1.0

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(devices, "_fastest_product", product)
    return runs


@pytest.mark.parametrize(
    ("amx", "takes", "dtype", "precision"),
    [
        (True, 0.2, torch.bfloat16, "bf16"),
        (
            True,
            3.0,
            torch.float32,
            "no",
        ),  # In the way of them.
        (False, 0.2, torch.float32, "no"),
    ],
)
def test_auto_is_what_is_faster(
    monkeypatch: pytest.MonkeyPatch, amx: bool, takes: float, dtype: torch.dtype, precision: str
) -> None:
    """bfloat16 needs the instructions and the faster product; trainings choose alike."""
    machine(monkeypatch, amx=amx, bfloat16_takes=takes)
    assert resolve_dtype("auto", CPU) == dtype
    assert resolve_mixed_precision("auto", CPU) == precision
    assert resolve_dtype("float16", CPU) == torch.float16


def test_race_is_run_once_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line has both times; without the instructions nothing is run."""
    runs = machine(monkeypatch, amx=True, bfloat16_takes=0.25)
    with caplog.at_level(logging.INFO, "igrag.devices"):
        assert [resolve_dtype("auto", CPU) for _ in range(3)] == [torch.bfloat16] * 3
    assert len(runs) == 2
    (line,) = caplog.messages
    assert "bfloat16 on cpu" in line and "1000000 us in float32 and 250000 us in bfloat16" in line
    forgotten = machine(monkeypatch, amx=False, bfloat16_takes=0.25)
    race_on_cpu.cache_clear()
    assert race_on_cpu() is None and forgotten == []


def test_the_real_product_is_timed() -> None:
    """Both dtypes can be timed on any CPU, in a moment."""
    seconds = [devices._fastest_product(dtype) for dtype in (torch.float32, torch.bfloat16)]
    assert all(0 < each < 1 for each in seconds)


def test_processes_compute_with_what_the_first_one_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A race that ends differently elsewhere changes no precision; one process asks nobody."""
    monkeypatch.setattr(devices, "_AGREED", {})
    store = HashStore()
    machine(monkeypatch, amx=True, bfloat16_takes=0.2)
    agree_on_dtypes(Processes(Ranks(rank=0, size=2), store))
    assert devices._AGREED["cpu"] == "bfloat16"
    devices._AGREED.clear()
    fastest_dtype.cache_clear()
    race_on_cpu.cache_clear()
    machine(monkeypatch, amx=True, bfloat16_takes=3.0)
    agree_on_dtypes(Processes(Ranks()))
    assert auto_dtype("cpu") == "float32"
    agree_on_dtypes(Processes(Ranks(rank=1, size=2), store))
    assert auto_dtype("cpu") == "bfloat16"
