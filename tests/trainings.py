"""Made-up training records."""

from collections.abc import Mapping

from igrag.training.record import Evaluation, ModelFacts, TrainingRecord, TrainingStep


def evaluation(step: int, bleu4: float, *, loss: float = 1.0) -> Evaluation:
    """Makes a validation; at step 0 that of the untuned model."""
    return Evaluation(
        step=step,
        epoch=step / 20,
        loss=loss,
        bleu1=0.5,
        bleu2=0.4,
        bleu3=0.3,
        bleu4=bleu4,
        seconds=1.5,
        checkpoint=f"checkpoint-{step}" if step else None,
    )


def training(bleu4: Mapping[int, float], *, steps: int = 0) -> TrainingRecord:
    """Makes a record with these scores (step -> BLEU-4) and so many steps."""
    return TrainingRecord(
        method="prompt_tuning",
        config={"training": {"learning_rate": 0.3, "seed": None}},
        versions={"python": "3.11"},
        model=ModelFacts("models/t5", total_parameters=4000, trainable_parameters=100),
        data={"train_examples": 320},
        evaluations=[evaluation(step, score) for step, score in bleu4.items()],
        history=[
            TrainingStep(
                step=step,
                epoch=step / 20,
                loss=1 + 2 / step,
                learning_rate=0.3,
                grad_norm=None if step == 1 else 0.1,
                seconds=step / 4,
            )
            for step in range(1, steps + 1)
        ],
        training_seconds=steps / 4,
    )
