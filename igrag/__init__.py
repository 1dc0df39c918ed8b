"""IGRAG: captions images by retrieval, with soft prompts and LoRA adapters for Flan-T5."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from igrag.captioning.captioner import Captioner
    from igrag.captioning.prompt_template import PromptTemplate
    from igrag.config import Config
    from igrag.data.images import open_image
    from igrag.retrieval.image_encoder import ImageEncoder
    from igrag.retrieval.knowledge_base import KnowledgeBase

__version__ = "0.2.0"
__all__ = [
    "Captioner",
    "Config",
    "ImageEncoder",
    "KnowledgeBase",
    "PromptTemplate",
    "__version__",
    "open_image",
]

# Imported when first used: torch and transformers take seconds.
_MODULES = {
    "Captioner": "igrag.captioning.captioner",
    "Config": "igrag.config",
    "ImageEncoder": "igrag.retrieval.image_encoder",
    "KnowledgeBase": "igrag.retrieval.knowledge_base",
    "PromptTemplate": "igrag.captioning.prompt_template",
    "open_image": "igrag.data.images",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
