"""The JSON of the server's answers, as OpenAPI shows it."""

from pydantic import BaseModel, Field

from igrag.data.coco import ImageId


class Retrieved(BaseModel):
    """A similar image."""

    image_id: ImageId = Field(description="Its id in the knowledge base.")
    score: float = Field(description="Cosine of the two images' vectors.")
    captions: list[str] = Field(description="Its captions.")


class Caption(BaseModel):
    """The caption of one image: what `igrag caption --json` prints."""

    image: str = Field(description="The name that the image was sent under.")
    caption: str = Field(description="The caption.")
    retrieved: list[Retrieved] = Field(description="The similar images, the nearest first.")
    prompt: str = Field(description="The prompt that the caption came from.")
    clip_score: float | None = Field(description="CLIPScore; null: the encoder reads no text.")
    model: str = Field(description="The language model.")
    prompt_tuning: bool = Field(description="Whether a soft prompt was used.")
    lora: bool = Field(description="Whether the LoRA adapter was used.")
    prompt_name: str | None = Field(None, description="The soft prompt asked for by name.")
    seconds: float = Field(description="Seconds that its batch took for each of its images.")


class Captions(BaseModel):
    """The captions of a request, in the order of its images."""

    captions: list[Caption]


class Health(BaseModel):
    """What the server is, once the model is loaded."""

    status: str = Field(description="ok")
    version: str = Field(description="The version of IGRAG.")
    model: str = Field(description="The language model.")
    method: str = Field(description="The method of requests that name none.")
    methods: list[str] = Field(description="The methods to choose from.")
    prompt_names: list[str] = Field(description="The soft prompts to choose from.")


class Failure(BaseModel):
    """Why a request has no captions, on one line."""

    error: str
