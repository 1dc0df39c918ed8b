"""Training data for captioning, and the LoRA adapter. Independent of prompt tuning."""
