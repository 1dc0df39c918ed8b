"""SPICE as COCO's caption evaluation computes it (Anderson et al. 2016, "SPICE").

pycocoevalcap runs the authors' Java program, which compares scene graphs: objects, attributes and
relations, found by Stanford's parser. It takes up to eight gigabytes of memory, and the parser's
models (`get_stanford_models` of pycocoevalcap downloads 400 MB) have to be there: an evaluation
downloads nothing.
"""

import math
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from igrag.metrics.registry import Array, Metric, MetricError, TokenizedCorpus, register

_PACKAGE = "pycocoevalcap"
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_DOWNLOAD = f"python -m {_PACKAGE}.spice.get_stanford_models"


class Spice(Metric):
    """SPICE, the mean over images of the F-score of their scene graphs."""

    key, label, headline, per_image = "spice", "SPICE", True, True

    def unavailable(self) -> str | None:
        """Returns whether Java, pycocoevalcap or the parser's models are missing."""
        if shutil.which("java") is None:
            return "needs Java, which is not installed"
        if find_spec(_PACKAGE) is None:
            return f"needs {_PACKAGE}, which is not installed (pip install {_PACKAGE})"
        if not all((_folder() / "lib" / name).is_file() for name in _MODELS):
            return f"needs the models of Stanford's parser, which are not there ({_DOWNLOAD})"
        return None

    def image_statistics(self, corpus: TokenizedCorpus) -> Array:
        """Returns the score [N, 1] of each image, by the Java program."""
        captions = {index: [" ".join(words)] for index, words in enumerate(corpus.hypotheses)}
        references = {
            index: [" ".join(words) for words in texts]
            for index, texts in enumerate(corpus.references)
        }
        try:
            _, scores = _program().compute_score(references, captions)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise MetricError(f"failed: {error}") from None
        found = [float(score["All"]["f"]) for score in scores]
        # A caption whose graph and whose references' graphs are empty has no F-score.
        return np.array([[0.0 if math.isnan(value) else value] for value in found])


def _folder() -> Path:
    spec = find_spec(f"{_PACKAGE}.spice")
    assert spec is not None and spec.submodule_search_locations, _PACKAGE
    return Path(spec.submodule_search_locations[0])


def _program() -> Any:
    from pycocoevalcap.spice.spice import Spice as Program

    return Program()


register(Spice())
