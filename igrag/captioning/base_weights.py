"""The weights that an adapter changes when it is loaded, so that it can be switched off.

PiSSA, OLoRA and their kin move a part of each weight matrix into the adapter: without it, the model
would miss that part (PEFT's `init_lora_weights`). A trained bias is not part of an adapter either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from igrag.files import ADAPTER_CONFIG, read_json
from igrag.fingerprints import base_parameters


class BaseWeights:
    """The base model's own values of weights that an adapter changed.

    Args:
        values: By `base_parameters`' names.
    """

    def __init__(self, values: Mapping[str, Tensor] | None = None) -> None:
        self._values = dict(values or {})
        self._changed: list[tuple[nn.Parameter, Tensor]] = []

    @classmethod
    def copy_of(cls, model: nn.Module) -> BaseWeights:
        """Copies all weights of a model, before an adapter is loaded onto it."""
        return cls({name: each.detach().clone() for name, each in base_parameters(model).items()})

    def keep_changed(self, model: nn.Module) -> None:
        """Keeps the values that differ from those of the model, and drops the others."""
        parameters = base_parameters(model)
        for name, value in self._values.items():
            value = value.to(parameters[name].device)
            if not torch.equal(value, parameters[name]):
                self._changed.append((parameters[name], value))
        self._values.clear()

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Inside the block the weights are those of the base model, bit for bit."""
        adapted = [parameter.data for parameter, _ in self._changed]
        try:
            for parameter, value in self._changed:
                parameter.data = value
            yield
        finally:
            for (parameter, _), value in zip(self._changed, adapted, strict=True):
                parameter.data = value


def changes_base_weights(adapter: Path) -> bool:
    """Returns whether loading an adapter may change the weights below it."""
    config = read_json(adapter / ADAPTER_CONFIG)
    by_name = isinstance(config.get("init_lora_weights"), str)  # "pissa", "olora", "gaussian", ...
    return by_name or config.get("bias", "none") != "none"
