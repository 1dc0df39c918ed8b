"""File names of a LoRA adapter: PEFT's own, and what this project adds."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE_NAME = "base_model.json"  # identifies the model that the adapter was trained on
