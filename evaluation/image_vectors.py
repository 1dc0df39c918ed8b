"""CLIP vectors of the scored images, for CLIPScore."""

import numpy as np
from numpy.typing import NDArray

from evaluation.dataset import EvaluationDataset
from igrag.errors import ImageError, ModelError
from igrag.metrics import Metric
from igrag.metrics.clip_score import ClipScore, ClipVectors, RefClipScore
from igrag.retrieval.image_encoder import ImageEncoder
from igrag.retrieval.text_encoder import TextEncoder
from igrag.retrieval.vector_lookup import encode_batches


def clip_metrics(
    dataset: EvaluationDataset, model_path: str, *, device: str, dtype: str, batch_size: int
) -> list[Metric]:
    """Returns CLIPScore and RefCLIPScore of the images, or why they cannot be computed.

    Args:
        dataset: The images; those that retrieval has encoded are not encoded again.
        model_path: Folder or hub id of the CLIP model.
        device: Where it computes.
        dtype: Of the image tower.
        batch_size: Images encoded at once.
    """
    count = len(dataset.images)
    missing = sum(not (image.file and image.file.is_file()) for image in dataset.images)
    try:
        if missing:
            raise ImageError(f"{missing} of {count} are missing")
        # Before the images: an encoder without it is the likelier problem.
        texts = TextEncoder(model_path, device=device)
        images = _known_vectors(dataset)
        if images is None:
            encoder = ImageEncoder(model_path, device=device, dtype=dtype)
            files = [image.file for image in dataset.images if image.file]
            encoded = encode_batches(encoder, files, batch_size=batch_size, title="CLIPScore")
            images = np.concatenate(list(encoded))
        vectors = ClipVectors(images, texts.encode)
    except (ImageError, ModelError) as error:
        needed = "all images" if isinstance(error, ImageError) else "the encoder's text tower"
        reason = f"needs {needed}: {error}"
        return [ClipScore(reason=reason), RefClipScore(reason=reason)]
    return [ClipScore(vectors), RefClipScore(vectors)]


def _known_vectors(dataset: EvaluationDataset) -> NDArray[np.float32] | None:
    """Returns the vectors [N, D] that the images have; None if one has none."""
    known = [image.vector for image in dataset.images if image.vector is not None]
    return np.stack(known) if known and len(known) == len(dataset.images) else None
