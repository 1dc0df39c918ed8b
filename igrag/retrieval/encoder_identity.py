"""What makes image vectors comparable; recorded in every knowledge base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EncoderIdentity:
    """What vectors must share to be comparable: weights, dimension and preprocessing.

    Attributes:
        name: The hub id, or the name of the model's folder; to be shown, never compared, because
            a folder may be moved.
        dimension: Length D of the vectors.
        weights_fingerprint: SHA-256 of a sample of every weight of the image tower and its
            projection.
        preprocessing: The image processor's settings that change the pixels.
    """

    name: str
    dimension: int
    weights_fingerprint: str
    preprocessing: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the identity as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> EncoderIdentity:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: A key is missing, unknown or of a wrong type.
        """
        expected = {
            "name": str,
            "dimension": int,
            "weights_fingerprint": str,
            "preprocessing": dict,
        }
        if not isinstance(data, Mapping) or set(data) != set(expected):
            raise ValueError(f"expected an encoder's {', '.join(expected)}")
        for key, kind in expected.items():
            if not isinstance(data[key], kind):
                raise ValueError(f"the encoder's {key} is not of type {kind.__name__}")
        return cls(**data)

    def differences(self, other: EncoderIdentity) -> list[str]:
        """Says what makes the vectors of two encoders incomparable; empty if nothing does."""
        found = []
        if self.dimension != other.dimension:
            found.append(f"dimension {self.dimension} against {other.dimension}")
        if self.weights_fingerprint != other.weights_fingerprint:
            mine, theirs = (side.weights_fingerprint[:8] for side in (self, other))
            found.append(f"weights {mine} against {theirs}")
        for key in sorted(self.preprocessing.keys() | other.preprocessing.keys()):
            setting, others = self.preprocessing.get(key), other.preprocessing.get(key)
            if setting != others:
                found.append(f"preprocessing {key} {setting} against {others}")
        return found
