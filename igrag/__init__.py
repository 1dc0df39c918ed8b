"""IGRAG: captions a picture by retrieval, with soft prompts and LoRA adapters for Flan-T5."""
