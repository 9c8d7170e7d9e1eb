import pytest
import torch
from torch.nn import functional

from huiyan.core.errors import ShapeError
from huiyan.core.packed import Packed
from huiyan.models.families.transformer_2017 import transformer_2017
from huiyan.models.language_checkpoint import fresh_language_model, load_language_model, save_language_model
from huiyan.tasks.language_model import next_token_loss

CONFIG = transformer_2017(
    20, start_id=0, pad_id=19, width=16, n_layers=2, n_heads=2, feed_forward_width=24, dropout=0.0
)
TEXTS = [[0, 3, 4, 5, 1], [0, 6, 1], [0, 7, 8, 1]]
SOURCES = [[3, 4], [5, 6, 7, 8], [9]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_all_tokens_but_the_first(smoothing: float) -> None:
    model = fresh_language_model(CONFIG, seed=0)
    losses = []
    for text, source in zip(TEXTS, SOURCES, strict=True):
        logits = model(Packed.from_lists([text[:-1]]), source=Packed.from_lists([source])).log_softmax(dim=-1)
        for row, token in zip(logits, text[1:], strict=True):
            losses.append(-(1 - smoothing) * row[token] - smoothing * row.mean())
    found = next_token_loss(model, TEXTS, SOURCES, label_smoothing=smoothing)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_a_text_without_a_next_token_is_refused() -> None:
    with pytest.raises(ShapeError, match="Number 1 has 1"):
        next_token_loss(fresh_language_model(CONFIG, seed=0), [[0, 1], [0]], [[2], [3]])


def test_the_model_is_the_one_of_torch(tmp_path) -> None:
    """``nn.Transformer`` has the layers of the paper; embeddings, waves and the output are around it."""
    model = fresh_language_model(CONFIG, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_language_model(model, tmp_path)
    model = load_language_model(tmp_path)
    assert model.config.decoder.width == 16 and model.config.decoder.layers == CONFIG.decoder.layers
    theirs = torch.nn.Transformer(16, 2, 2, 2, 24, dropout=0.0, batch_first=True).eval()
    theirs.encoder.norm = theirs.decoder.norm = None  # which the paper does not have
    for side, (ours, layers) in {
        "encoder": (model.encoder.stack.layers, theirs.encoder.layers),
        "decoder": (model.decoder.stack.layers, theirs.decoder.layers),
    }.items():
        for mine, other in zip(ours, layers, strict=True):
            pairs = [(mine.attention, other.self_attn)]
            norms = [
                (mine.attention_norm, other.norm1),
                (mine.feed_forward_norm, other.norm3 if side == "decoder" else other.norm2),
            ]
            if side == "decoder":
                pairs.append((mine.cross.attention, other.multihead_attn))
                norms.append((mine.cross.norm, other.norm2))
            linears = [(mine.feed_forward.inner, other.linear1), (mine.feed_forward.outer, other.linear2)]
            with torch.no_grad():
                for own, foreign in pairs:
                    parts = (own.query, own.key, own.value)
                    foreign.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
                    foreign.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
                    foreign.out_proj.load_state_dict(own.out.state_dict())
                for own, foreign in norms + linears:
                    foreign.load_state_dict(own.state_dict())
    table = model.encoder.embeddings.words.weight

    def embed(ids: list[int]) -> torch.Tensor:
        angle = torch.arange(len(ids))[:, None] / 10_000 ** (torch.arange(0, 16, 2) / 16)
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)
        return (table[torch.tensor(ids)] * 4 + waves)[None]

    for text, source in zip(TEXTS, SOURCES, strict=True):
        causal = torch.nn.Transformer.generate_square_subsequent_mask(len(text))
        with torch.no_grad():
            rows = theirs(embed(source), embed(text), tgt_mask=causal)[0]
            found = model(Packed.from_lists([text]), source=Packed.from_lists([source]))
        torch.testing.assert_close(found, functional.linear(rows, table), atol=1e-4, rtol=1e-4)
