"""The training loss as a sum, from which the mean over any number of batches can be made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from igrag.data.batching import LABEL_IGNORED


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the summed cross-entropy of a batch's target tokens, in nats and in float32.

    The model's own loss is a mean over the batch's tokens, from which no mean over a global batch
    can be made, and it is rounded to the model's dtype.

    Args:
        logits: [..., V], such as [B, L, V].
        labels: Token ids [...]; `LABEL_IGNORED` marks padding.
    """
    return cross_entropy(
        logits.flatten(0, -2).float(),  # [N, V]
        labels.flatten(),
        ignore_index=LABEL_IGNORED,
        reduction="sum",
    )


@contextmanager
def head_on_targets(
    model: Any, labels: Tensor, *, whole: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inside the block the head sees the real target tokens alone, where that is worthwhile.

    Args:
        model: A seq2seq model of transformers, or a PeftModel around one.
        labels: Token ids [B, L]; `LABEL_IGNORED` marks padding.
        whole: The logits of padding are needed, too.

    Yields:
        decoder_input_ids [B, L] to run the model on, and the labels of the logits that it then
        returns: [N] of [N, V], or [B, L] of [B, L, V].
    """
    decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels)
    # On a GPU, counting the real tokens would make the host wait.
    if whole or labels.device.type != "cpu":
        yield decoder_input_ids, labels
        return
    real = labels != LABEL_IGNORED
    with head_on(model, real):
        yield decoder_input_ids, labels[real]


@contextmanager
def head_on(model: Any, positions: Tensor) -> Iterator[None]:
    """Inside the block the model's language-model head sees some decoder positions alone.

    The head multiplies every position with the whole vocabulary, padding included, unless it is
    left out here. The model's logits are then [N, V].

    Args:
        model: A seq2seq model of transformers, or a PeftModel around one.
        positions: A mask [B, L] with N positions.
    """

    def select(_: Any, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][positions],)  # [B, L, H] -> [N, H]

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
