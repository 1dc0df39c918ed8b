"""Tables and sentences of a comparison over several seeds, in English and Chinese."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures.comparison import (
    BASELINES,
    IMAGE_AGAINST,
    IMAGE_METHODS,
    METRICS,
    SHUFFLED,
    TESTED,
)
from igrag.units import format_size

SIGNIFICANT = 0.05
_LABELS = {"bleu4": "BLEU-4", "cider_d": "CIDEr-D", "rouge_l": "ROUGE-L", "clip_score": "CLIPScore"}
_NAMES_MAIN = {"en": "names the main thing", "zh": "说出主要物体"}
_METHOD = {"en": "Method", "zh": "方法"}
_PARAMETERS = {"en": "Trainable parameters", "zh": "可训练参数"}
_OVER = {"en": "{metric} over {baseline}", "zh": "{metric} 相对 {baseline}"}
_AGAINST = {"en": "over {}", "zh": "相对 {}"}
_NONE = "–"
_PARTS = {
    "en": {"covered": "covered", "not covered": "not covered", "all": "all"},
    "zh": {"covered": "已覆盖", "not covered": "未覆盖", "all": "全部"},
}
_COSTS = {
    "en": ["Method", "Trainable parameters", "Share", "Size on disk"],
    "zh": ["方法", "可训练参数", "占模型比例", "文件大小"],
}
_P_BELOW = "p ≤ {:.4f}"
_P_ABOVE = {"en": "p up to {:.3f}", "zh": "p 最大 {:.3f}"}
_CLAUSES = {
    "en": {
        "beats": "beats {baseline} by {difference} ({p})",
        "worse": "is worse than {baseline} by {difference} ({p})",
        "same": "is not told apart from {baseline} in every run ({difference}, {p})",
        "sentence": "**{method}**, {metric}: {clauses}.",
        "joint": "; ",
    },
    "zh": {
        "beats": "高于 {baseline}，差值 {difference}（{p}）",
        "worse": "低于 {baseline}，差值 {difference}（{p}）",
        "same": "与 {baseline} 并非每次都能区分（{difference}，{p}）",
        "sentence": "**{method}**，{metric}：{clauses}。",
        "joint": "；",
    },
}
_INSTRUCTION = {
    "en": "`instruction` asks “{text}”: of {count} instructions it has the highest BLEU-4 on the "
    "first {images} images of `{data}`.\n",
    "zh": "`instruction` 一行的指令为 “{text}”：在 `{data}` 的前 {images} 张图像上，"
    "它是 {count} 条指令中 BLEU-4 最高的。\n",
}


def scores_table(data: Mapping[str, Any], lang: str) -> str:
    """Returns a row for each method: the mean of the seeds, lowest and highest in brackets."""
    keys = [key for key in METRICS if any(each["scores"].get(key) for each in _methods(data))]
    heads = [_LABELS.get(key, _NAMES_MAIN[lang]) for key in keys]
    rows = [[_METHOD[lang], *heads, _PARAMETERS[lang]]]
    for name, method in data["methods"].items():
        count = (method.get("training") or {}).get("trainable_parameters")
        parameters = f"{count:,}" if count else _NONE
        rows.append([name, *(_spread(method["scores"].get(key)) for key in keys), parameters])
    return to_markdown(rows)


def differences_table(data: Mapping[str, Any], lang: str) -> str:
    """Returns the differences of trained methods to what needs no training."""
    pairs = [(metric, baseline) for metric in TESTED for baseline in BASELINES]
    heads = [_OVER[lang].format(metric=_LABELS[metric], baseline=name) for metric, name in pairs]
    rows = [[_METHOD[lang], *heads]]
    for name in _trained(data):
        over = data["methods"][name]["over"]
        rows.append([name, *(_signed(over[baseline][metric]) for metric, baseline in pairs)])
    return to_markdown(rows)


def costs_table(data: Mapping[str, Any], lang: str) -> str:
    """Returns trainable parameters and size on disk of the trained methods.

    Not the time: the trainings run several at once, which slows each of them by another amount.
    """
    rows = [_COSTS[lang]]
    for name in _trained(data):
        facts = data["methods"][name]["training"]
        rows.append(
            [
                name,
                f"{facts['trainable_parameters']:,}",
                f"{facts['trainable_percent']:.2g}%",
                format_size(facts["size_bytes"]),
            ]
        )
    return to_markdown(rows)


def parts_table(data: Mapping[str, Any], lang: str) -> str:
    """Returns the scores of the images that the knowledge base covers, and of the others."""
    parts = {**data["parts"], "all": data}
    columns = [(key, part) for key in (*TESTED, "names_main_category") for part in parts]
    heads = [
        f"{_LABELS.get(key, _NAMES_MAIN[lang])}: {_PARTS[lang][part]} ({parts[part]['images']})"
        for key, part in columns
    ]
    rows = [[_METHOD[lang], *heads]]
    for name in data["methods"]:
        cells = [_spread(parts[part]["methods"][name]["scores"].get(key)) for key, part in columns]
        rows.append([name, *cells])
    return to_markdown(rows)


def parts_sentences(data: Mapping[str, Any], lang: str) -> str:
    """Returns what beats what on the images of each part."""
    return "".join(
        f"\n{_PARTS[lang][name].capitalize()}:\n\n{sentences(part, lang)}"
        for name, part in data["parts"].items()
    )


def sentences(data: Mapping[str, Any], lang: str) -> str:
    """Returns what beats what, as a list of sentences."""
    lines = []
    for name in _trained(data):
        over = data["methods"][name]["over"]
        for metric in TESTED:
            clauses = [_clause(over[baseline][metric], baseline, lang) for baseline in BASELINES]
            words = _CLAUSES[lang]
            text = words["sentence"].format(
                method=name, metric=_LABELS[metric], clauses=words["joint"].join(clauses)
            )
            lines.append(f"- {text}\n")
    return "".join(lines)


def image_table(data: Mapping[str, Any], lang: str) -> str:
    """Returns what image tokens add to a prompt and to an adapter, in each part, with p."""
    parts = {**data["parts"], "all": data}
    columns = [(other, part) for other in IMAGE_AGAINST for part in parts]
    heads = [f"{_AGAINST[lang].format(other)}: {_PARTS[lang][part]}" for other, part in columns]
    rows = [[_METHOD[lang], *heads]]
    for metric in TESTED:
        for name in (*IMAGE_METHODS, *SHUFFLED):
            found = [parts[part]["methods"][name]["over"][other][metric] for other, part in columns]
            cells = (f"{_signed(each)}, {_largest_p(each, lang)}" for each in found)
            rows.append([f"{name}, {_LABELS[metric]}", *cells])
    return to_markdown(rows)


def instruction_sentence(data: Mapping[str, Any], lang: str) -> str:
    """Returns which instruction the row `instruction` has, and what it was chosen from."""
    found = data["instruction"]
    return _INSTRUCTION[lang].format(count=len(found["scores"]), **found)


def variants_table(data: Mapping[str, Any], lang: str) -> str:
    """Returns the scores of what is no default, on val: mean of the seeds, lowest and highest."""
    keys = [key for key in TESTED if any(each[key] for each in data["methods"].values())]
    rows = [[_METHOD[lang], *(_LABELS[key] for key in keys)]]
    for name, scores in data["methods"].items():
        rows.append([name, *(_spread(scores[key]) for key in keys)])
    return to_markdown(rows)


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows, titles first, as a Markdown table whose figures align right."""
    rule = ["---", *("---:" for _ in rows[0][1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:]))


def _clause(found: Mapping[str, float], baseline: str, lang: str) -> str:
    if found["largest_p"] >= SIGNIFICANT or found["low"] <= 0 <= found["high"]:
        verb = "same"
    else:
        verb = "beats" if found["mean"] > 0 else "worse"
    return _CLAUSES[lang][verb].format(
        baseline=baseline, difference=_signed(found), p=_largest_p(found, lang)
    )


def _largest_p(found: Mapping[str, float], lang: str) -> str:
    """Returns the largest p of all seeds: a bound where all are significant, else their highest."""
    p = found["largest_p"]
    if p >= SIGNIFICANT:
        return _P_ABOVE[lang].format(p)
    return _P_BELOW.format(math.ceil(p * 10_000) / 10_000)  # A bound is rounded up.


def _trained(data: Mapping[str, Any]) -> list[str]:
    """Returns the trained methods, without the controls."""
    return [
        name for name, method in data["methods"].items()
        if "over" in method and name not in SHUFFLED
    ]  # fmt: skip


def _methods(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return list(data["methods"].values())


def _spread(found: Mapping[str, float] | None) -> str:
    if found is None:
        return _NONE
    if found["low"] == found["high"]:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} ({found['low']:.3f}–{found['high']:.3f})"


def _signed(found: Mapping[str, float]) -> str:
    return f"{found['mean']:+.3f} ({found['low']:+.3f} … {found['high']:+.3f})"
