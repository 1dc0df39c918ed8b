"""Walks the whole path with models of the real shapes: CLIP ViT-B/32 and Flan-T5-base.

python benchmarks/real_shapes.py --captions CAPTIONS.json --images FOLDER

The weights are random and saved to disk in a temporary folder, so it needs no download; what is
checked and timed is that real files and real sizes go through the commands that users type.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_DEMO = _ROOT / "demo"


def main() -> int:
    """Makes the models, builds a knowledge base, captions a picture and builds training data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--captions", type=Path, default=_DEMO / "coco" / "annotations" / "captions_val.json")
    add("--images", type=Path, default=_DEMO / "coco" / "val")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save_clip(folder / "clip")
        _save_t5(folder / "flan-t5")
        options = [
            f"retrieval_config.encoder={folder / 'clip'}",
            f"model_config.models.flan-t5.path={folder / 'flan-t5'}",
            f"knowledge_base_config.path={folder / 'kb'}",
        ]
        settings = [word for option in options for word in ("--set", option)]
        files = ["--captions", str(arguments.captions), "--images", str(arguments.images)]
        encoder = ["--set", options[0]]
        _run("scripts/build_knowledge_base.py", *files, "--output", str(folder / "kb"), *encoder)
        _check_own_captions(arguments.captions, arguments.images, settings)
        _build_data(arguments.captions, arguments.images, folder, options)
    return 0


def _save_clip(folder: Path) -> None:
    """Saves a CLIP of ViT-B/32's shape (the library's default) with its image processor."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    CLIPModel(CLIPConfig()).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def _save_t5(folder: Path) -> None:
    """Saves a T5 of Flan-T5-base's shape; its tokenizer is the miniature's."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=32128,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_layers=12,
        num_heads=12,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(_DEMO / "models" / "t5-mini").save_pretrained(folder)


def _check_own_captions(captions: Path, images: Path, settings: list[str]) -> None:
    """Captions one of the pictures: it must find itself first, with its own captions."""
    content = json.loads(captions.read_text(encoding="utf-8"))
    picture = content["images"][0]
    own = [
        " ".join(entry["caption"].split())
        for entry in content["annotations"]
        if entry["image_id"] == picture["id"]
    ]
    path = str(images / picture["file_name"])
    answer = json.loads(_run("main.py", *settings, "--json", "--i", path))
    first = answer["retrieved"][0]
    assert first["captions"] == own, (first["captions"], own)
    assert abs(first["score"] - 1) < 1e-4, first["score"]
    print(f"{path} finds itself first, at {first['score']:.6f}; prompt of the real template:")
    print(answer["prompt"])


def _build_data(captions: Path, images: Path, folder: Path, options: list[str]) -> None:
    """Builds training data from the same files and audits it."""
    config = folder / "config.yaml"
    text = (_ROOT / "configs" / "coco_flan_t5.yaml").read_text(encoding="utf-8")
    for option, old in zip(
        options,
        ("openai/clip-vit-base-patch32", "google/flan-t5-base", "knowledge_base/coco2017"),
        strict=True,
    ):
        text = text.replace(old, option.partition("=")[2])
    config.write_text(text, encoding="utf-8")
    data = ["--set", f"data.captions_path={captions}", "--set", f"data.images_path={images}"]
    output = ["--output-data", str(folder / "data"), "--train-ratio", "0.9"]
    script = "lora_training/train_lora.py"
    print(_run(script, "--build-data", "--main-config", str(config), *data, *output), end="")
    files = [str(folder / "data" / f"{name}.jsonl") for name in ("train", "val")]
    print(_run(script, "--audit", *files), end="")


def _run(script: str, *words: str) -> str:
    """Runs a command as a user would and returns what it prints."""
    started = time.perf_counter()
    command = [sys.executable, str(_ROOT / script), *words]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"{script}: {time.perf_counter() - started:.0f} s", flush=True)
    return output


if __name__ == "__main__":
    sys.exit(main())
