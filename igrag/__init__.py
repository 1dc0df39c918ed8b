"""IGRAG: captions a image by retrieval, with soft prompts and LoRA adapters for Flan-T5."""

__version__ = "0.2.0"
