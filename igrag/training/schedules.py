"""Learning rate schedules, under the names that the settings use."""

from igrag.config.choices import Schedule

# Each as transformers' `get_scheduler` and `TrainingArguments.lr_scheduler_type` name it; all of
# them rise linearly during warmup.
SCHEDULES: dict[Schedule, str] = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}
