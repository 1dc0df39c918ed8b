#!/bin/bash
# Checks and times the project on a machine with a CUDA device, without a network; no part starts after 330 seconds:
#     bash benchmarks/gpu_check.sh OUTPUT_FOLDER
#     bash benchmarks/gpu_check.sh OUTPUT_FOLDER --dry_run    # the same on the CPU, with tiny models
# Needs torch, transformers, peft, accelerate, datasets. Writes gpu_check.json and gpu_check.md after every part.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "${PYTHON:-python3}" -m benchmarks.gpu_check "$@"
