"""Which model the options mean."""

import pytest

from huiyan.core.errors import ConfigError
from huiyan.models.transformer_xl import TransformerXL
from huiyan.text.learn import learn_tokenizer
from huiyan.workflows.language.config import PRESETS, LanguageOptions
from huiyan.workflows.language.masked import encoder_config
from huiyan.workflows.language.models import fresh_model

SMALL = {"layers": 1, "width": 8, "heads": 2, "segment_length": 4, "memory_length": 4}


def test_the_norm_is_before_each_sublayer_unless_the_model_is_the_papers() -> None:
    models = [fresh_model(LanguageOptions(**SMALL, norm=norm), 9, seed=0) for norm in (None, "pre", "post")]
    found = [model.config.residual for model in models if isinstance(model, TransformerXL)]
    assert found == ["pre", "pre", "post"]
    assert {preset.get("norm") for name, preset in PRESETS.items() if "base" in name or "large" in name} == {"post"}
    with pytest.raises(ConfigError, match="--norm is for transformer-xl"):
        fresh_model(LanguageOptions(**SMALL, model="lstm", norm="pre"), 9, seed=0)


@pytest.mark.parametrize(
    ("model", "values", "told"),
    [
        ("lstm", {"own_projections": True}, "--own-projections is for transformer-xl; lstm has no use for it"),
        ("lstm", {"head_width": 4}, "--head-width is for transformer-xl, transformer; lstm"),
        ("lstm", {"feed_forward_width": 8}, "--feed-forward-width"),
        ("transformer", {"div_value": 2}, "--div-value is for transformer-xl, lstm; transformer has no use for it"),
        ("transformer", {"own_projections": True}, "--own-projections"),
        ("transformer", {"attention_dropout": 0.1}, "--attention-dropout"),
    ],
)
def test_an_option_without_a_place_is_refused(model: str, values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fresh_model(LanguageOptions(**SMALL, model=model, **values), 9, seed=0)


@pytest.mark.parametrize("model", ["auto", "transformer"])
@pytest.mark.parametrize(
    "values",
    [
        {"norm": "post"},
        {"attention_dropout": 0.3},
        {"cutoffs": (5,)},
        {"div_value": 2},
        {"own_projections": True},
        {"head_width": 4},
    ],
    ids=lambda values: next(iter(values)),
)
def test_an_option_without_a_place_is_refused_for_hidden_words(model: str, values: dict[str, object]) -> None:
    options = LanguageOptions(**SMALL, objective="mlm", model=model, **values)
    name = next(iter(values)).replace("_", "-")
    with pytest.raises(ConfigError, match=f"--{name} is for .*; mlm has no use for it"):
        encoder_config(options, learn_tokenizer("chars", ["abc def"], framed=True))


def test_clusters_share_their_projections_unless_asked() -> None:
    for own, tied in ((False, (False, True)), (True, False)):
        model = fresh_model(LanguageOptions(**SMALL, cutoffs=(5,), own_projections=own), 9, seed=0)
        assert isinstance(model, TransformerXL) and model.config.tied_projections == tied
