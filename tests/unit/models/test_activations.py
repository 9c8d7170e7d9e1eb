import pytest
import torch
from transformers.activations import ACT2FN

from huiyan.core.errors import ConfigError
from huiyan.models.activations import ACTIVATIONS, activation_named


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_name_means_what_it_means_to_others(name: str) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(activation_named(name)(x), ACT2FN[name](x), atol=1e-7, rtol=1e-7)


def test_an_unknown_name_gets_the_closest() -> None:
    with pytest.raises(ConfigError, match="no activation 'gelu_news'. Did you mean 'gelu_new'"):
        activation_named("gelu_news")
