"""The texts of the page in English and Chinese, and which of them a browser asks for."""

from collections.abc import Mapping

Texts = Mapping[str, str]
ENGLISH, CHINESE = "en", "zh"
# Key -> English, Chinese.
_TEXTS = {
    "title": ("Image captions by retrieval", "检索增强的图像描述"),
    "subtitle": (
        "Drop an image: similar images are found, and a language model captions it from theirs.",
        "拖入一张图片：检索相似的图片，语言模型再根据它们的描述写出这张图片的描述。",
    ),
    "tab_caption": ("Caption", "描述图片"),
    "tab_evaluations": ("Evaluations", "评测结果"),
    "tab_runs": ("Training runs", "训练记录"),
    "image": ("Image", "图片"),
    "examples": ("Examples", "示例"),
    "methods": ("Methods and soft prompts", "方法和软提示"),
    "methods_info": (
        "Each has a caption; all of them share one loaded model.",
        "每一项生成一条描述，共用同一个已加载的模型。",
    ),
    "decoding": ("Retrieval and decoding", "检索与解码"),
    "top_k": ("Similar images in the prompt (top_k)", "提示中的相似图片数（top_k）"),
    "beams": ("Beams", "束宽（beams）"),
    "beams_info": (
        "1: greedy search, whose words appear as they are written.",
        "1 为贪心搜索，逐词显示。",
    ),
    "captions": ("Captions", "生成的描述"),
    "matches": ("Similar images", "相似图片"),
    "prompt": ("Prompt", "提示文本"),
    "similarity": ("similarity", "相似度"),
    "no_image": (
        "No image yet: drop one, or choose an example.",
        "还没有图片：请拖入一张，或选择示例。",
    ),
    "no_methods": ("Choose at least one method.", "请至少选择一种方法。"),
    "retrieving": ("Finding similar images …", "正在检索相似图片……"),
    "writing": ("Generating captions …", "正在生成描述……"),
    "done": ("Done.", "完成。"),
    "empty": ("(empty)", "（空）"),
    "waiting": ("waiting", "等待中"),
    "failed": (
        "Generating failed; the terminal of igrag app has the reason.",
        "生成失败；原因见运行 igrag app 的终端。",
    ),
    "why": ("Why this caption?", "为什么是这条描述？"),
    "why_method": ("Caption of", "描述来自"),
    "explain": ("Explain", "解释"),
    "why_info": (
        "What the decoder read for each word: soft tokens and similar captions.",
        "解码器生成每个词时读取了什么：虚拟 token 和相似图片的描述。",
    ),
    "why_title": ("What the decoder read", "解码器读取了什么"),
    "evaluation": ("Evaluation", "评测"),
    "no_evaluations": (
        "No evaluation found. Run igrag evaluate, or name a folder: igrag app --results FOLDER",
        "没有找到评测结果。请运行 igrag evaluate，或指定文件夹：igrag app --results FOLDER",
    ),
    "scores": ("Scores with 95% intervals", "分数与 95% 置信区间"),
    "method": ("Method", "方法"),
    "sort_by": ("Sort by", "排序"),
    "in_order": ("as in the file", "按文件顺序"),
    "images_captions": (
        "Images: search, sort, the best and the worst",
        "图片：搜索、排序、最好与最差",
    ),
    "no_report": (
        "report.html is missing in this folder; run igrag evaluate again.",
        "此文件夹中没有 report.html；请重新运行 igrag evaluate。",
    ),
    "refresh": ("Refresh", "刷新"),
    "run": ("Training run", "训练"),
    "runs": ("Training runs to compare", "要比较的训练"),
    "runs_info": (
        "They are read again every few seconds, while they train.",
        "训练进行时每隔几秒重新读取。",
    ),
    "no_runs": (
        "No training run found. Start one, or name a folder: igrag app --runs FOLDER",
        "没有找到训练记录。请开始训练，或指定文件夹：igrag app --runs FOLDER",
    ),
    "curves": ("Training curves of", "训练曲线："),
    "checkpoints": ("Checkpoints", "检查点"),
    "checkpoint": ("Checkpoint", "检查点"),
    "untuned": ("untuned", "未训练"),
    "best": ("best", "最佳"),
    "step": ("step", "步数"),
    "epoch": ("epoch", "轮次"),
    "loss": ("validation loss", "验证损失"),
    "differences": ("Settings that differ", "不同的设置"),
    "setting": ("Setting", "设置"),
    "same": ("All settings are the same.", "所有设置都相同。"),
    "trainable": ("trainable parameters", "可训练参数"),
    "last_step": ("last step", "最后一步"),
    "training_loss": ("training loss", "训练损失"),
}
TEXTS: Mapping[str, Texts] = {
    language: {key: pair[index] for key, pair in _TEXTS.items()}
    for index, language in enumerate((ENGLISH, CHINESE))
}


def language_of(accepted: str | None) -> str:
    """Returns the first language of an Accept-Language header that the page has; else English.

    The header lists languages by preference, as browsers write it: "zh-CN,zh;q=0.9,en;q=0.8".
    """
    for part in (accepted or "").split(","):
        name = part.partition(";")[0].strip().lower().partition("-")[0]
        if name in TEXTS:
            return name
    return ENGLISH


def texts_for(accepted: str | None) -> Texts:
    """Returns the texts in the language that an Accept-Language header asks for."""
    return TEXTS[language_of(accepted)]
