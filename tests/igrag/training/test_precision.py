"""Mixed precision by name."""

import pytest
import torch

from igrag.config.choices import MixedPrecision
from igrag.devices import fastest_dtype
from igrag.training.precision import resolve_mixed_precision


@pytest.mark.parametrize(
    ("name", "device", "supported", "expected"),
    [
        ("auto", "cpu", True, "no"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "no"),
        ("bf16", "cpu", False, "bf16"),
        ("fp32", "cuda", True, "no"),
    ],
)
def test_auto_is_bf16_only_on_a_gpu_that_supports_it(
    name: MixedPrecision,
    device: str,
    supported: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name auto depends on the device; the other two names mean the same everywhere."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    fastest_dtype.cache_clear()
    assert resolve_mixed_precision(name, torch.device(device)) == expected
    fastest_dtype.cache_clear()
