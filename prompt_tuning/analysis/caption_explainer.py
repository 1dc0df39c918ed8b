"""Explains a caption of a model with several soft prompts, as `igrag explain --image` does."""

from collections.abc import Mapping

from PIL import Image

from igrag.captioning.captioner import Captioner
from igrag.captioning.generator import GenerativeModel
from igrag.captioning.prompt_template import PromptTemplate
from igrag.captioning.retrieval_prompts import RetrievedPrompt
from prompt_tuning.analysis.attention_page import attention_card, attention_html
from prompt_tuning.prompt_tuner import PromptTuner
from prompt_tuning.without_adapter import WithoutAdapter


class CaptionExplainer:
    """Makes the page of what the decoder read for one caption.

    Args:
        captioner: The pipeline; the attention implementation of its model must be eager.
        models: By whether the adapter is enabled, the model that generates.
        template: What prompts are built with.
    """

    def __init__(
        self,
        captioner: Captioner,
        models: Mapping[bool, GenerativeModel],
        template: PromptTemplate,
    ) -> None:
        self._generator = captioner.generator
        self._models = models
        self._template = template

    def explain(
        self,
        image: Image.Image,
        name: str,
        retrieved: RetrievedPrompt,
        *,
        lora: bool,
        prompt: str,
        title: str,
    ) -> str:
        """Returns the page as HTML.

        Args:
            image: The image, in RGB.
            name: Its name.
            retrieved: What was found for it.
            lora: Whether the adapter is enabled.
            prompt: The soft prompt as the model calls it.
            title: The soft prompt as the page calls it.
        """
        model = self._models[lora]
        if isinstance(model, WithoutAdapter):
            with model.disabled() as tuner:
                return self._page(tuner, image, name, retrieved, prompt, title)
        return self._page(model, image, name, retrieved, prompt, title)

    def _page(
        self,
        tuner: GenerativeModel,
        image: Image.Image,
        name: str,
        retrieved: RetrievedPrompt,
        prompt: str,
        title: str,
    ) -> str:
        assert isinstance(tuner, PromptTuner)  # It has the prompt.
        before = tuner.active
        tuner.use(prompt)
        try:
            card = attention_card(
                tuner, image, name, retrieved, template=self._template, generator=self._generator
            )
            return attention_html([card], tuner, self._generator.tokenizer, prompt=title)
        finally:
            tuner.use(before)
