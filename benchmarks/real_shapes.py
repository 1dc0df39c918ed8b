"""Runs the whole pipeline with models of the real shapes: CLIP ViT-B/32 and Flan-T5-base.

python benchmarks/real_shapes.py --captions CAPTIONS.json --images FOLDER [--quick]

The weights are random and saved to disk in a temporary folder, so it needs no download; what is
checked and timed is that real files and real sizes go through the commands that users type.
--quick takes models of one layer: the same commands on the same files, and nothing to time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_DEMO = _ROOT / "demo"
_LAYERS, _FLAN_T5_BASE = 12, 247_577_856  # layers of either model; the second one's parameters
# Random weights learn nothing, so a few steps show as much as many.
_TRAIN_EXAMPLES, _VAL_EXAMPLES = 12, 3
# 20 soft tokens, and an MLP 512 -> 64 -> 4 x 768 with biases.
_PROMPT, _IMAGE_PROMPT = 20 * 768, 512 * 64 + 64 + 64 * 4 * 768 + 4 * 768


def main() -> int:
    """Makes models, a knowledge base, captions, training data, an adapter and soft prompts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--captions", type=Path, default=_DEMO / "coco" / "annotations" / "captions_val.json")
    add("--images", type=Path, default=_DEMO / "coco" / "val")
    add("--quick", action="store_true", help="models of one layer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_clip(folder / "clip", layers=1 if arguments.quick else _LAYERS)
        _save_t5(folder / "flan-t5", layers=1 if arguments.quick else _LAYERS)
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
        config = _write_config(folder, options)
        _build_data(arguments.captions, arguments.images, folder, config)
        _train(folder, config)
        _caption_with_all(arguments.captions, arguments.images, folder, config)
    return 0


def save_clip(folder: Path, *, layers: int) -> None:
    """Saves a CLIP of ViT-B/32's shape (the library's default) with its image processor."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    torch.manual_seed(0)
    depth = {"num_hidden_layers": layers}
    CLIPModel(CLIPConfig(text_config=depth, vision_config=depth)).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


def _save_t5(folder: Path, *, layers: int) -> None:
    """Saves a T5 of Flan-T5-base's shape; its tokenizer is the demo model's."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    untyped: dict[str, Any] = {"decoder_start_token_id": 0}  # The library's types leave it out.
    config = T5Config(
        vocab_size=32128,
        d_model=768,
        d_kv=64,
        d_ff=2048,
        num_layers=layers,
        num_heads=12,
        feed_forward_proj="gated-gelu",
        **untyped,
    )
    model = T5ForConditionalGeneration(config)
    # Flan-T5's output layer is its own. The library's T5Config always ties it to the embeddings;
    # from a file with both tensors it loads both.
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    count = sum(tensor.numel() for tensor in model.parameters())
    assert layers < _LAYERS or count == _FLAN_T5_BASE, count
    print(f"flan-t5: {count:,} parameters")
    tokenizer = AutoTokenizer.from_pretrained(_DEMO / "models" / "t5-mini", trust_remote_code=False)
    tokenizer.save_pretrained(folder)


def _check_own_captions(captions: Path, images: Path, settings: list[str]) -> None:
    """Captions one of the images: it must find itself first, with its own captions."""
    content = json.loads(captions.read_text(encoding="utf-8"))
    image = content["images"][0]
    own = [
        " ".join(entry["caption"].split())
        for entry in content["annotations"]
        if entry["image_id"] == image["id"]
    ]
    path = str(images / image["file_name"])
    answer = json.loads(_run("main.py", *settings, "--json", "--i", path))
    first = answer["retrieved"][0]
    assert first["captions"] == own, (first["captions"], own)
    assert abs(first["score"] - 1) < 1e-4, first["score"]
    print(f"{path} finds itself first, at {first['score']:.6f}; prompt of the real template:")
    print(answer["prompt"])


def _write_config(folder: Path, options: list[str]) -> Path:
    """Writes the shipped config of the real models with the paths of these."""
    config = folder / "config.yaml"
    text = (_ROOT / "configs" / "coco_flan_t5.yaml").read_text(encoding="utf-8")
    text = text.replace("base: config.yaml", f"base: {_ROOT / 'configs' / 'config.yaml'}")
    for option, old in zip(
        options,
        ("openai/clip-vit-base-patch32", "google/flan-t5-base", "knowledge_base/coco2017"),
        strict=True,
    ):
        text = text.replace(old, option.partition("=")[2])
    for recipe in ("lora_training", "prompt_tuning"):
        text = text.replace(f"{recipe}/checkpoints/coco", str(folder / recipe))
    config.write_text(text, encoding="utf-8")
    return config


def _build_data(captions: Path, images: Path, folder: Path, config: Path) -> None:
    """Builds training data from the same files and audits it."""
    data = ["--set", f"data.captions_path={captions}", "--set", f"data.images_path={images}"]
    output = ["--output_data", str(folder / "data"), "--train_ratio", "0.8"]
    script = "lora_training/data_builder.py"
    print(_run(script, "--main_config", str(config), *data, *output), end="")
    files = [folder / "data" / f"{name}.jsonl" for name in ("train", "val")]
    print(_run(script, "--audit", *map(str, files)), end="")
    for file, count in zip(files, (_TRAIN_EXAMPLES, _VAL_EXAMPLES), strict=True):
        lines = file.read_text(encoding="utf-8").splitlines()[:count]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _train(folder: Path, config: Path) -> None:
    """Trains an adapter and soft prompts: plain, on the adapter, with image tokens.

    A few steps each.
    """
    short = _settings(
        training__num_train_epochs=1,
        training__per_device_train_batch_size=2,
        training__gradient_accumulation_steps=2,
    )
    lora = folder / "lora_training"
    data = ["--output_data", str(folder / "data"), "--output_dir", str(lora)]
    print(_run("lora_training/train_lora.py", "--train", "--main_config", str(config), *data,
               *short, *_settings(training__max_new_tokens=8)), end="")  # fmt: skip
    files = _settings(
        model__main_config=config,
        data__train_file=folder / "data" / "train.jsonl",
        data__val_file=folder / "data" / "val.jsonl",
        evaluation__max_new_tokens=8,
    )
    prompt = folder / "prompt_tuning"
    script = "prompt_tuning/prompt_training.py"
    for output, more in (
        (prompt, []),
        (prompt / "with_lora", _settings(model__lora_weights_path=lora / "best")),
        (prompt / "image", _settings(prompt_tuning__image_tokens=4)),
    ):
        words = ["--train", "--output_dir", str(output), *files, *short, *more]
        print(_run(script, *words), end="")
    _check_image_prompt(prompt / "image")


def _check_image_prompt(folder: Path) -> None:
    """Prints the parameters of the prompt with image tokens, and their share of the model's."""
    model = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))["model"]
    trained, total = model["trainable_parameters"], model["total_parameters"]
    assert trained == _PROMPT + _IMAGE_PROMPT, trained
    print(
        f"image tokens: {_IMAGE_PROMPT:,} parameters of the MLP and {_PROMPT:,} of the prompt, "
        f"{trained / total:.4%} of {total:,}"
    )


def _caption_with_all(captions: Path, images: Path, folder: Path, config: Path) -> None:
    """Captions an image with all four methods around one loaded model, and with image tokens."""
    image = json.loads(captions.read_text(encoding="utf-8"))["images"][0]
    words = ["--config", str(config), "--compare", "--json", "--set",
             "generation_config.max_new_tokens=8"]  # fmt: skip
    path = str(images / image["file_name"])
    prompt = folder / "prompt_tuning" / "image" / "best_model" / "prompt_embeddings.pt"
    enabled = _settings(prompt_tuning__enabled="true", prompt_tuning__weights_path=prompt)
    without_compare = [word for word in words if word != "--compare"]
    assert json.loads(_run("main.py", *without_compare, *enabled, "--i", path))["prompt_tuning"]
    answer = json.loads(_run("main.py", *words, "--i", path))
    found = sorted(answer["captions"])
    assert found == ["base", "lora", "lora+prompt", "prompt"], found


def _settings(**values: object) -> list[str]:
    """Returns --set words; two underscores stand for the point in a key."""
    pairs = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    return [word for pair in pairs for word in ("--set", pair)]


def _run(script: str, *words: str) -> str:
    """Runs a command as a user would and returns what it prints."""
    started = time.perf_counter()
    command = [sys.executable, str(_ROOT / script), *words]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"{script}: {time.perf_counter() - started:.0f} s", flush=True)
    return output


if __name__ == "__main__":
    sys.exit(main())
