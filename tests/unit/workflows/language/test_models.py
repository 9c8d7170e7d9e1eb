"""Which model the options mean."""

import pytest

from huiyan.core.errors import ConfigError
from huiyan.models.transformer_xl import TransformerXL
from huiyan.workflows.language.config import PRESETS, LanguageOptions
from huiyan.workflows.language.models import fresh_model

SMALL = {"layers": 1, "width": 8, "heads": 2, "segment_length": 4, "memory_length": 4}


def test_the_norm_is_before_each_sublayer_unless_the_model_is_the_papers() -> None:
    models = [fresh_model(LanguageOptions(**SMALL, norm=norm), 9, seed=0) for norm in (None, "pre", "post")]
    found = [model.config.residual for model in models if isinstance(model, TransformerXL)]
    assert found == ["pre", "pre", "post"]
    assert {preset.get("norm") for name, preset in PRESETS.items() if "base" in name or "large" in name} == {"post"}
    with pytest.raises(ConfigError, match="--norm is for transformer-xl"):
        fresh_model(LanguageOptions(**SMALL, model="lstm", norm="pre"), 9, seed=0)


def test_clusters_share_their_projections_unless_asked() -> None:
    for own, tied in ((False, (False, True)), (True, False)):
        model = fresh_model(LanguageOptions(**SMALL, cutoffs=(5,), own_projections=own), 9, seed=0)
        assert isinstance(model, TransformerXL) and model.config.tied_projections == tied
