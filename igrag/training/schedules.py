"""Learning rate schedules, under the names that the settings use."""

from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine"]

# Each as transformers' `get_scheduler` and `TrainingArguments.lr_scheduler_type` name it; all of
# them rise linearly during warmup.
SCHEDULES: dict[ScheduleName, str] = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}
