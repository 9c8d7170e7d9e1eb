"""Schedules, the optimiser's groups and the configuration."""

import math

import pytest
import torch
from torch import nn

from huiyan.core.errors import ConfigError
from huiyan.data.packing import training_batches
from huiyan.training.config import TrainingConfig
from huiyan.training.optimiser import build_optimiser, set_learning_rate
from huiyan.training.plan import steps_of_epoch, walk
from huiyan.training.progress import clock
from huiyan.training.schedules import inverse_root_rate, learning_rate_factor


def factors(schedule: str, *, total: int = 10, warmup: float = 0.2) -> list[float]:
    return [learning_rate_factor(step, total=total, warmup=warmup, schedule=schedule) for step in range(total)]


def test_linear_rises_then_falls_in_a_line() -> None:
    assert factors("linear") == pytest.approx([0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_cosine_is_half_way_down_in_the_middle() -> None:
    values = factors("cosine")
    assert values[6] == pytest.approx(0.5)
    assert values[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))


def test_constant_stays() -> None:
    assert factors("constant")[2:] == [1.0] * 8


def test_an_unknown_schedule_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"schedule.*linear, cosine or constant. Got 'steps'"):
        factors("steps")


def test_matrices_decay_and_lower_layers_learn_slower() -> None:
    layers = [
        list(nn.Linear(2, 3).parameters()),
        list(nn.LayerNorm(3).parameters()),
        list(nn.Linear(3, 2).parameters()),
    ]
    optimiser = build_optimiser(layers, learning_rate=1.0, weight_decay=0.1, layer_decay=0.5)
    described = [(group["peak"], group["weight_decay"], len(group["params"])) for group in optimiser.param_groups]
    assert described == [(0.25, 0.1, 1), (0.25, 0.0, 1), (0.5, 0.0, 2), (1.0, 0.1, 1), (1.0, 0.0, 1)]
    assert set_learning_rate(optimiser, 0.5) == 0.5
    assert [group["lr"] for group in optimiser.param_groups] == [0.125, 0.125, 0.25, 0.5, 0.5]


def test_frozen_parameters_are_left_out() -> None:
    frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)
    optimiser = build_optimiser(
        [[frozen], list(nn.Linear(2, 2).parameters())], learning_rate=1.0, weight_decay=0.0, layer_decay=1.0
    )
    assert all(frozen is not parameter for group in optimiser.param_groups for parameter in group["params"])


def test_walk_numbers_steps_over_epochs_and_validates_last() -> None:
    def epoch_steps(epoch: int) -> list:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        batches = training_batches([4] * 6, batch_tokens=8, seed=0, epoch=epoch)
        return steps_of_epoch(epoch, batches, accumulate=1, validations_per_epoch=1)

    walked = list(walk(epoch_steps, start=0, total=5))
    assert [number for number, _ in walked] == [1, 2, 3, 4, 5]
    assert [step.validate for _, step in walked] == [False, False, True, False, True]
    assert list(walk(epoch_steps, start=3, total=5)) == walked[3:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "The epochs option must be 1 or more. Got 0 instead."),
        ({"learning_rate": 0.0}, "The learning_rate option must be a positive number."),
        ({"warmup": 1.0}, "The warmup option must be a share in"),
        ({"precision": "int8"}, "The precision option must be one of auto, fp32, bf16, fp16. Got 'int8' instead."),
        ({"max_minutes": 0.0}, "The max_minutes option must be more than 0."),
    ],
)
def test_wrong_options_say_what_was_expected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**options)  # pyright: ignore[reportArgumentType] (wrong on purpose)


def test_an_unknown_key_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"TrainingConfig has no key 'learningrate'. Did you mean 'learning_rate'\?"):
        TrainingConfig.from_dict({"learningrate": 1.0})


def test_the_configuration_survives_a_round_trip() -> None:
    config = TrainingConfig(epochs=7, max_minutes=2.5)
    assert TrainingConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(("seconds", "shown"), [(5.4, "5 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (-1, "0 s")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_the_paper_s_schedule_rises_in_a_line_and_falls_with_the_root() -> None:
    rates = [inverse_root_rate(step, width=512, warmup=4000) for step in (1, 2000, 4000, 16_000)]
    assert rates[2] == pytest.approx(512**-0.5 * 4000**-0.5)  # the peak of the base model: 7e-4
    assert rates[0] == pytest.approx(rates[2] / 4000)
    assert rates[1] == pytest.approx(rates[2] / 2)
    assert rates[3] == pytest.approx(rates[2] / 2)
    assert inverse_root_rate(1, width=512, warmup=4000, factor=3.0) == pytest.approx(3 * rates[0])
    with pytest.raises(ConfigError, match="counted from 1"):
        inverse_root_rate(0, width=512, warmup=4000)
