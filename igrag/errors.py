"""The errors a user can cause: one line with the file, what was found and expected, and the fix."""


class IgragError(Exception):
    """Base of all errors shown as one line instead of a traceback; exit code 1."""

    exit_code = 1


class ConfigError(IgragError):
    """The configuration is wrong: file, key, what was found and what was expected."""

    exit_code = 2


class UsageError(IgragError):
    """The command line asks for something that cannot be done."""

    exit_code = 2


class DataError(IgragError):
    """A data file is missing or not what it should be."""


class ImageError(DataError):
    """An image is missing, damaged, or too large to open safely."""


class KnowledgeBaseError(DataError):
    """A knowledge base is missing, damaged, or made with another encoder."""


class ModelError(IgragError):
    """A model or tokenizer cannot be loaded, or is of the wrong type."""


class CheckpointError(IgragError):
    """Trained weights are missing, damaged, or belong to another model."""


class TrainingError(IgragError):
    """Training cannot start or continue: nothing would be learned, or the loss is not finite."""


class OutputError(IgragError):
    """An output cannot be written: another process writes it, or the disk is full."""


class MemoryExhaustedError(IgragError):
    """Memory ran out, on a GPU or on the CPU: the batch size that failed, and one to try."""
