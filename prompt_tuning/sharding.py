"""Shards the frozen model over the processes, where one GPU cannot hold it: torch's FSDP2.

Each layer's weights are spread over the processes, and gathered while the layer computes. The
prompt is on every process, and so are the embeddings, which it is prepended to. All processes must
therefore run the model equally often: see `GlobalBatches` and `Validation`.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from igrag.config.choices import AUTO
from igrag.errors import ConfigError, UsageError


def check_sharding(processes: int, batch_size: int | str) -> None:
    """Checks what sharding needs.

    Raises:
        UsageError: There is only one process.
        ConfigError: The batch size would be tried out, by each process for itself.
    """
    if processes == 1:
        raise UsageError(
            "training.shard_model: found one process, expected several; start them with torchrun"
        )
    if batch_size == AUTO:
        raise ConfigError(
            "training.shard_model: found training.per_device_train_batch_size: auto, expected a "
            "number"
        )


def shard_model(model: Any, accelerator: Accelerator) -> None:
    """Spreads the layers of a frozen model on the CPU over the processes' devices.

    Args:
        model: T5 or a relative; its layers are moved one at a time.
        accelerator: Connects the processes.
    """
    device = accelerator.device
    mesh = init_device_mesh(device.type, (accelerator.num_processes,))
    for stack in (model.encoder, model.decoder):
        for layer in stack.block:
            # Each by itself: encoder and decoder are also called without the model around them.
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    with torch.no_grad():
        model.to(device)  # the embeddings and the last norms
