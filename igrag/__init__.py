"""IGRAG: captions a image by retrieval, with soft prompts and LoRA adapters for Flan-T5."""
