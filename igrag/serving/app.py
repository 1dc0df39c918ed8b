"""The routes of the server: captions, health and metrics."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException

from igrag import __version__
from igrag.cli import shorten
from igrag.data.images import read_image
from igrag.errors import IgragError, ImageError, MemoryExhaustedError
from igrag.serving.batch_queue import BatchQueue, QueueFullError
from igrag.serving.engine import CaptionItem, Choice, ChoiceError, Choices
from igrag.serving.gate import CAPTIONS, HEALTH, Gate, GateRules
from igrag.serving.metrics import CONTENT_TYPE, ServerMetrics
from igrag.serving.schemas import Captions, Failure, Health

MAX_TOP_K = 100
_FIELDS = frozenset({"images", "method", "prompt_name", "top_k"})
_LONGEST_NAME = 100  # characters of an image's name
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": description}
    for status, description in {
        400: "The body is no form.",
        401: "The token is missing or wrong.",
        403: "The request addresses another host.",
        413: "The request, or an image, is too large.",
        422: "An image cannot be read, or a field is wrong.",
        429: "Too many images are waiting.",
        500: "Generating failed.",
        503: "Memory ran out, or there are too many connections.",
    }.items()
}
logger = logging.getLogger(__name__)
CaptionQueue = BatchQueue[CaptionItem, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the application needs to know.

    Attributes:
        model_name: The language model, for health.
        top_k: Similar images in a prompt where a request does not ask for a number.
        max_pixels: Maximum of an image's width times height.
        rules: What each request must fulfill.
    """

    model_name: str
    top_k: int
    max_pixels: int
    rules: GateRules


class CaptionService:
    """Turns uploads into captions.

    Args:
        queue: Captions batches.
        choices: What requests can choose from.
        options: See there.
    """

    def __init__(self, queue: CaptionQueue, choices: Choices, options: ServerOptions) -> None:
        self._queue = queue
        self._choices = choices
        self._options = options
        # One thread: the limit of pixels then bounds what decoding takes, and Pillow's warnings
        # are switched off for the whole process at a time.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")

    async def caption(
        self,
        uploads: Sequence[UploadFile],
        method: str | None,
        prompt_name: str | None,
        top_k: int | None,
    ) -> list[dict[str, Any]]:
        """Returns the captions of uploaded images.

        Raises:
            HTTPException: Too many images, or too many are waiting; generating failed.
            ChoiceError: The method or the soft prompt is unknown.
            ImageError: An image cannot be read.
        """
        choice = self._choices.find(method, prompt_name)
        if len(uploads) > self._queue.capacity:
            found = f"images: found {len(uploads)}, expected at most {self._queue.capacity}"
            raise HTTPException(413, found)
        try:
            with self._queue.reserve(len(uploads)):  # before images are decoded into memory
                decode = asyncio.get_running_loop().run_in_executor
                items = [
                    await decode(self._decoder, self._open, upload, choice, top_k)
                    for upload in uploads
                ]
                return await self._generate(items)
        except QueueFullError as error:
            raise HTTPException(429, str(error), {"Retry-After": "1"}) from None

    def close(self) -> None:
        """Stops the thread that decodes."""
        self._decoder.shutdown()

    def _open(self, upload: UploadFile, choice: Choice, top_k: int | None) -> CaptionItem:
        name = (upload.filename or "image")[-_LONGEST_NAME:]
        image = read_image(upload.file, name, max_pixels=self._options.max_pixels)
        return CaptionItem(image, name, choice, top_k or self._options.top_k)

    async def _generate(self, items: Sequence[CaptionItem]) -> list[dict[str, Any]]:
        try:
            return await self._queue.run(items)
        except MemoryExhaustedError as error:
            logger.error("%s", error)
            raise HTTPException(503, str(error)) from error
        except Exception as error:
            # What went wrong may name files of this machine: the log has it, the answer has not.
            logger.error("%s", error, exc_info=not isinstance(error, IgragError))
            found = "generating failed; the server's log has the reason"
            raise HTTPException(500, found) from error


def create_app(
    queue: CaptionQueue, metrics: ServerMetrics, choices: Choices, options: ServerOptions
) -> FastAPI:
    """Makes the application; its lifespan starts the queue, and finishes it at the end."""
    service = CaptionService(queue, choices, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await queue.close()
        service.close()

    app = FastAPI(
        title="IGRAG",
        version=__version__,
        description="Captions images by retrieval.",
        lifespan=lifespan,
        docs_url=None,  # They would load scripts from elsewhere.
        redoc_url=None,
    )
    app.add_middleware(Gate, rules=options.rules, metrics=metrics)
    _add_error_handlers(app)
    _add_captions(app, service, protected=options.rules.token is not None)
    _add_state(app, metrics, choices, options)
    return app


def _add_captions(app: FastAPI, service: CaptionService, *, protected: bool) -> None:
    # The gate compares the token; this puts it into the description.
    dependencies = [Depends(HTTPBearer(auto_error=False))] if protected else []

    @app.post(
        CAPTIONS,
        response_model=Captions,
        response_model_exclude_unset=True,
        responses=_FAILURES,
        dependencies=dependencies,
    )
    async def caption(
        request: Request,
        images: Annotated[list[UploadFile], File(min_length=1, description="One or several.")],
        method: Annotated[str | None, Form(description="base, prompt, lora, lora+prompt")] = None,
        prompt_name: Annotated[str | None, Form(description="A soft prompt by name.")] = None,
        top_k: Annotated[
            int | None, Form(ge=1, le=MAX_TOP_K, description="Similar images in the prompt.")
        ] = None,
    ) -> dict[str, Any]:
        """Captions the images of a form."""
        if unknown := sorted((await request.form()).keys() - _FIELDS):
            found = f"{unknown[0]}: unknown field, expected some of {', '.join(sorted(_FIELDS))}"
            raise HTTPException(422, found)
        return {"captions": await service.caption(images, method, prompt_name, top_k)}


def _add_state(
    app: FastAPI, metrics: ServerMetrics, choices: Choices, options: ServerOptions
) -> None:
    @app.get(HEALTH, response_model=Health)
    async def health() -> dict[str, Any]:
        """Answers as soon as the model is loaded."""
        return {
            "status": "ok",
            "version": __version__,
            "model": options.model_name,
            "method": choices.default,
            "methods": list(choices.methods),
            "prompt_names": choices.prompt_names(),
        }

    @app.get("/metrics", response_class=Response)
    async def numbers() -> Response:
        """Returns the metrics as Prometheus reads them."""
        return Response(metrics.as_text(), media_type=CONTENT_TYPE)


def _add_error_handlers(app: FastAPI) -> None:
    """Makes one line of JSON of every error."""

    async def of_image(_: Request, error: Exception) -> Response:
        return _failure(422, str(error))

    async def of_form(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _failure(422, "; ".join(map(_describe, error.errors()[:3])))

    async def of_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        return _failure(error.status_code, str(error.detail), error.headers)

    app.add_exception_handler(ImageError, of_image)
    app.add_exception_handler(ChoiceError, of_image)
    app.add_exception_handler(RequestValidationError, of_form)
    app.add_exception_handler(StarletteHTTPException, of_http)


def _failure(status: int, text: str, headers: Any = None) -> JSONResponse:
    # What a request holds may stand in the line: bytes that are not UTF-8 are escaped.
    line = shorten(" ".join(text.split())).encode("utf-8", "backslashreplace").decode("utf-8")
    return JSONResponse({"error": line}, status, headers)


def _describe(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"][1:]) or "body"
    found = problem.get("input")
    shown = f"found {str(found)[:_LONGEST_NAME]!r}, " if isinstance(found, str | int) else ""
    return f"{name}: {shown}{problem['msg'][:1].lower()}{problem['msg'][1:]}"
