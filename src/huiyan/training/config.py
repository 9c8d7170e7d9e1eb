"""What can be chosen about training. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from huiyan.core.config import Config, require
from huiyan.core.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
TrackerChoice = Literal["none", "tensorboard", "wandb", "mlflow", "trackio"]


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Config):
    """How the loop trains, whatever it trains.

    Attributes:
        epochs: Passes over the training data.
        max_minutes: Train for about this long, each of several trainings by itself: the number of steps is fixed at the
            start from a short timing.
        learning_rate: Peak learning rate of the last layer and the head, per step.
        batch_tokens: Tokens in a batch; batches are filled to it without padding.
        accumulate: Batches whose gradients are added up before a step.
        schedule: How the learning rate falls after the warm-up: linear, cosine or constant.
        warmup: Share of the steps in which the learning rate rises to its peak.
        weight_decay: AdamW's decay of weight matrices; biases and norms are left out.
        clip: Largest norm of the gradient of a step; 0 clips nothing.
        layer_decay: Learning rate of a layer as a multiple of the one above it; 1 is the same everywhere.
        validations_per_epoch: How often an epoch stops to look at the validation data.
        patience: Stop after this many validations without a better figure; 0 never stops early.
        precision: auto, fp32, bf16 or fp16. auto is bf16 where the machine multiplies it natively.
        device: auto, cpu, cuda, cuda:N or mps.
        seed: Seed of all that is drawn: the order, the dropout, fresh weights, the splits.
        track: Also tell an experiment tracker of every step: tensorboard, wandb, mlflow or trackio. TensorBoard's files
            lie in OUT/tracking.
        checkpoint_minutes: How often the state for --resume is written; less often where it would take over 5 % of the
            time.
    """

    epochs: int = 3
    max_minutes: float | None = None
    learning_rate: float = 1e-4
    batch_tokens: int = 1024
    accumulate: int = 1
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    layer_decay: float = 1.0
    validations_per_epoch: int = 2
    patience: int = 4
    precision: Precision = "auto"
    device: str = "auto"
    seed: int = 0
    track: TrackerChoice = "none"
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "accumulate", "validations_per_epoch"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        for name in ("learning_rate", "checkpoint_minutes"):
            require(0 < getattr(self, name) < float("inf"), name, "a positive number", getattr(self, name))
        for name in ("weight_decay", "clip", "patience", "seed"):
            require(0 <= getattr(self, name) < float("inf"), name, "0 or more", getattr(self, name))
        require(self.max_minutes is None or self.max_minutes > 0, "max_minutes", "more than 0", self.max_minutes)
        require(0 <= self.warmup < 1, "warmup", "a share in [0, 1)", self.warmup)
        require(0 < self.layer_decay <= 1, "layer_decay", "in (0, 1]", self.layer_decay)
        for name, choices in _CHOICES.items():
            value = getattr(self, name, choices[0])
            require(value in choices, name, "one of " + ", ".join(choices), value)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(LoopConfig):
    """How an encoder learns labels.

    Attributes:
        label_smoothing: Share of the target spread over all classes.
        class_weights: "none", or "balanced" to count every class the same whatever its rows.
        focal: How much less rows count that are easy already (the focal loss's γ, such as 2); 0 counts all the same.
        sampling: "none", or "balanced" to draw every class equally often in an epoch.
        metric: Validation figure that picks the best checkpoint. auto is macro_f1 (qwk for ordinal labels, r2 for
            numbers); others are accuracy, mcc, micro_f1, exact_match, spearman and loss.
    """

    layer_decay: float = 0.95
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    focal: float = 0.0
    sampling: Literal["none", "balanced"] = "none"
    metric: Literal[
        "auto", "macro_f1", "accuracy", "mcc", "micro_f1", "exact_match", "qwk", "r2", "spearman", "loss"
    ] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.focal < float("inf"), "focal", "0 or more", self.focal)
        require(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        if self.focal and self.label_smoothing:
            raise ConfigError("--focal and --label-smoothing both change the target of the loss.", hint="Give one.")


METRICS = ("auto", "macro_f1", "accuracy", "mcc", "micro_f1", "exact_match", "qwk", "r2", "spearman", "loss")
_CHOICES = {
    "schedule": ("linear", "cosine", "constant"),
    "class_weights": ("none", "balanced"),
    "sampling": ("none", "balanced"),
    "metric": METRICS,
    "track": ("none", "tensorboard", "wandb", "mlflow", "trackio"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}
