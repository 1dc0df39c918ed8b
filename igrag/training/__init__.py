"""What both trainings share: record, checkpoints, curves and summary."""
