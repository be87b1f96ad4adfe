"""What a brain can do: exact match, reliability, a report. Importing it never imports tinygrad."""
from seed.evaluation.brain_report import evaluate_brain
from seed.evaluation.trained_brain import TrainedBrain

__all__ = ["TrainedBrain", "evaluate_brain"]
