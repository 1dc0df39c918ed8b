"""README.md of an exported folder: the few lines that run it, which the command prints, too."""

from igrag.captioning.ctranslate2_model import OPTION_NAMES
from igrag.captioning.exported_model import ExportedModel
from igrag.training.summary import aligned
from prompt_tuning.export.comparison import GeneratedTokens

_TRANSFORMERS = """\
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = AutoModelForSeq2SeqLM.from_pretrained("{folder}")
inputs = tokenizer("{text}", truncation=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))
"""
_CTRANSLATE2 = """\
import ctranslate2
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{folder}/tokenizer.json")
tokenizer.enable_truncation({max_length})
translator = ctranslate2.Translator("{folder}")
result = translator.translate_batch(
    [tokenizer.encode("{text}").tokens],
    suppress_sequences=[[f"<soft_{{index}}>"] for index in range({prompt_length})],
    max_input_length=0,
    min_decoding_length=0,
{options}
)[0]
print(tokenizer.decode([tokenizer.token_to_id(token) for token in result.hypotheses[0]]))
"""
_STOP = """ CTranslate2's beam search ends with the
first finished captions, and so did that of the PromptTuner here (`early_stopping=True`)."""
_LINES = {"transformers": _TRANSFORMERS, "ctranslate2": _CTRANSLATE2}


def lines_for(exported: ExportedModel, folder: str, text: str) -> str:
    """Returns the Python code that captions from `text` with an exported folder."""
    options = {theirs: exported.decoding[ours] for ours, theirs in OPTION_NAMES.items()}
    return _LINES[exported.format].format(
        folder=folder,
        text=text,
        max_length=exported.max_source_length,
        prompt_length=exported.prompt_length,
        options="\n".join(f"    {name}={value!r}," for name, value in options.items()),
    )


def table(exported: ExportedModel, before: GeneratedTokens, after: GeneratedTokens) -> str:
    """Returns both sides of the comparison: agreement, BLEU-4 and captions a second."""
    captions = len(before.tokens)
    name = f"{exported.format} {exported.quantization}"
    rows = [["", "equal captions", "BLEU-4", "captions/s", "speed"]]
    for title, each in (("PromptTuner", before), (name, after)):
        rows.append(
            [
                title,
                f"{each.equal_to(before)} of {captions}",
                f"{each.bleu_4:.4f}",
                f"{captions / each.seconds:.1f}",
                f"{before.seconds / each.seconds:.2f}x",
            ]
        )
    return aligned(rows)


def readme(exported: ExportedModel, lines: str, result: str) -> str:
    """Returns README.md: what the folder is, the code that runs it, and how it was checked."""
    lora = " with a merged LoRA adapter" if exported.lora else ""
    stop = "" if exported.format != "ctranslate2" or exported.decoding["num_beams"] == 1 else _STOP
    return f"""\
# {exported.base_model}{lora} and a soft prompt, for {exported.format} ({exported.quantization})

Made by `igrag export`. The soft prompt is in the embedding matrix, as {exported.prompt_length}
special tokens from `<soft_0>` on. The tokenizer puts them before each text, and no caption may
contain them. From the folder above this one:

```python
{lines}```

Compared with the model that it was made from:{stop}

```
{result}
```
"""
