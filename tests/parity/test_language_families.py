"""Every family of language models against its `transformers` twin, on tiny random weights.

Ours sees the texts packed, of mixed lengths; `transformers` sees them one at a time.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.parity.language_twins import DROPOUTS, LENGTHS, VARIANTS, Twins, packed, twins_in
from torch import Tensor, nn

from huiyan.models.inference import language_model_for_inference
from huiyan.models.inference_layer import InferenceLayer
from huiyan.models.language_checkpoint import language_names, load_language_model, save_language_model
from huiyan.models.naming import together


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_logits_are_theirs_in_eval(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant)
    twins.theirs.eval()
    with torch.no_grad():
        expected = torch.cat(twins.ask_them(twins.texts))
        torch.testing.assert_close(twins.ask(twins.texts), expected, atol=2e-5, rtol=1e-5)
        ends = torch.tensor(LENGTHS).cumsum(0) - 1
        torch.testing.assert_close(twins.ask(twins.texts, only_last=True), expected[ends], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cache_changes_nothing(variant: str, tmp_path: Path) -> None:
    """Prompts of different lengths, then one token, then three, then some of the sequences twice."""
    twins = twins_in(tmp_path, variant)
    twins.theirs.eval()
    more = torch.randint(5, 59, (len(LENGTHS), 6))
    with torch.no_grad():
        whole = [torch.cat((text, row)) for text, row in zip(twins.texts, more, strict=True)]
        expected = twins.ask_them(whole)
        cache = twins.ours.fresh_cache()
        prompt = twins.ask(twins.texts, cache=cache)
        found = [rows[:length] for rows, length in zip(expected, LENGTHS, strict=True)]
        torch.testing.assert_close(prompt, torch.cat(found), atol=2e-5, rtol=1e-5)
        for first, last in ((0, 1), (1, 4)):
            step = twins.ours(packed(list(more[:, first:last])), cache=cache)
            rows = [logits[n + first : n + last] for logits, n in zip(expected, LENGTHS, strict=True)]
            torch.testing.assert_close(step, torch.cat(rows), atol=2e-5, rtol=1e-5)
        chosen = torch.tensor([5, 0, 0, 3])
        cache.select(chosen)
        for column in (4, 5):
            step = twins.ours(packed(list(more[chosen, column : column + 1])), cache=cache)
            rows = [expected[text][LENGTHS[text] + column] for text in chosen]
            torch.testing.assert_close(step, torch.stack(rows), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_made_to_answer_it_says_the_same(variant: str, precision: str, tmp_path: Path) -> None:
    """Prompts of different lengths, then steps with a cache, then some of the sequences twice."""
    twins = twins_in(tmp_path, variant)
    twins.ours.eval()
    fast = language_model_for_inference(twins.ours, precision)
    stacks = [fast.decoder.stack, *([] if fast.encoder is None else [fast.encoder.stack])]
    assert {type(layer) for stack in stacks for layer in stack.layers} == {InferenceLayer}

    def check(found: Tensor, expected: Tensor) -> None:
        if precision == "fp32":
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
        assert (found - expected).norm() < 0.03 * expected.norm()

    more = torch.randint(5, 59, (len(LENGTHS), 3))
    with torch.inference_mode():
        plain = (twins, twins.ours.fresh_cache())
        quick = (replace(twins, ours=fast), fast.fresh_cache())
        expected, found = (each.ask(twins.texts, cache=cache) for each, cache in (plain, quick))
        check(found, expected)
        for columns in (slice(0, 1), slice(1, 3)):
            expected, found = (each.ours(packed(list(more[:, columns])), cache=cache) for each, cache in (plain, quick))
            check(found, expected)
        for _, cache in (plain, quick):
            cache.select(torch.tensor([5, 0, 0, 3]))
        expected, found = (each.ours(packed([torch.tensor([7])] * 4), cache=cache) for each, cache in (plain, quick))
        check(found, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_gradient_is_theirs_in_train(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path, variant, **dict.fromkeys(DROPOUTS, 0.0))
    ours, theirs = twins.ours.train(), twins.theirs.train()
    direction = torch.randn(sum(LENGTHS), 60)
    (twins.ask(twins.texts) * direction).sum().backward()
    (torch.cat(twins.ask_them(twins.texts)) * direction).sum().backward()

    expected = dict(theirs.named_parameters())
    names = language_names(ours)
    found = together({names[name]: parameter.grad for name, parameter in ours.named_parameters()})
    unused = {name for name, parameter in expected.items() if parameter.grad is None}  # Marian's fixed positions
    assert found.keys() == expected.keys() - unused
    for name, gradient in found.items():
        wanted = expected[name].grad
        size = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(
            gradient, wanted, atol=2e-5 * size, rtol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_stands_where_theirs_does(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout made a plain factor, one site too many, too few or of another probability shows."""

    def factor(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        del inplace
        return x * (1 - p) if training else x

    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: factor(x, self.p, self.training))
    monkeypatch.setattr(nn.functional, "dropout", factor)
    attention_alone = {"attn_pdrop": 0.0, "attention_dropout": 0.0}
    twins = twins_in(
        tmp_path,
        variant,
        **attention_alone,
        resid_pdrop=0.3,
        embd_pdrop=0.2,
        dropout=0.3,
        activation_dropout=0.2,
        **({"dropout_rate": 0.0} if "t5" in variant else {}),
    )
    twins.ours.train(), twins.theirs.train()
    with torch.no_grad():
        expected = torch.cat(twins.ask_them(twins.texts))
        torch.testing.assert_close(twins.ask(twins.texts), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_load_what_we_save(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path / "theirs", variant)
    save_language_model(twins.ours, tmp_path / "ours")
    loaded, information = type(twins.theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(information.values()), information
    assert loaded.config.architectures == [type(loaded).__name__]
    expected = load_file(tmp_path / "theirs" / "model.safetensors")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)
    twins.theirs = loaded.eval()
    with torch.no_grad():
        torch.testing.assert_close(twins.ask(twins.texts), torch.cat(twins.ask_them(twins.texts)), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_their_config_survives_the_round_trip(variant: str, tmp_path: Path) -> None:
    twins = twins_in(tmp_path / "theirs", variant, bos_token_id=4, eos_token_id=5, attention_dropout=0.07)
    save_language_model(twins.ours, tmp_path / "ours")
    before, after = (
        transformers.AutoConfig.from_pretrained(tmp_path / whose).to_dict() for whose in ("theirs", "ours")
    )
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed <= {"_name_or_path", "dtype"}, {key: (before.get(key), after.get(key)) for key in changed}


@pytest.mark.parametrize("name", ["gpt2", "llama", "bart", "t5"])
def test_weights_under_their_other_names_are_read(name: str, tmp_path: Path) -> None:
    """Base models leave a prefix out, old files hold shared matrices several times, and constants."""
    twins = twins_in(tmp_path, name)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    prefix = {"gpt2": "transformer.", "llama": "model.", "bart": "model."}.get(name, "")
    head = weights.pop("lm_head.weight", None)
    old = {key.removeprefix(prefix): tensor for key, tensor in weights.items()}
    if name == "gpt2":
        old |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    elif name == "llama":
        old |= {"layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)} | (
            {} if head is None else {"lm_head.weight": head}
        )
    else:
        old["encoder.embed_tokens.weight"] = old["shared.weight"].clone()
        old["decoder.embed_tokens.weight"] = old.pop("shared.weight")
    save_file(old, file)
    if name == "bart":  # a file without its constant has 0
        assert not load_language_model_without_constant(tmp_path, old).any()
        save_file(old, file)
    again = load_language_model(tmp_path)
    for key, parameter in twins.ours.named_parameters():
        torch.testing.assert_close(dict(again.named_parameters())[key], parameter, atol=0, rtol=0)


def load_language_model_without_constant(folder: Path, weights: dict[str, Tensor]) -> Tensor:
    save_file(
        {name: tensor for name, tensor in weights.items() if "final_logits" not in name}, folder / "model.safetensors"
    )
    found = load_language_model(folder).logits_bias
    assert found is not None
    return found


def test_an_output_matrix_of_its_own_is_kept_whatever_the_config_says(tmp_path: Path) -> None:
    """T5 1.1: `transformers` writes that it is tied, beside two matrices."""
    twins = twins_in(tmp_path, "t5 1.1")
    file = tmp_path / "model.safetensors"
    own = torch.randn(60, 24)
    save_file({**load_file(file), "lm_head.weight": own}, file)
    theirs = type(twins.theirs).from_pretrained(tmp_path).eval()
    again = Twins(load_language_model(tmp_path), theirs, twins.texts, twins.sources)
    torch.testing.assert_close(theirs.lm_head.weight, own)
    with torch.no_grad():
        torch.testing.assert_close(again.ask(again.texts), torch.cat(again.ask_them(again.texts)), atol=2e-5, rtol=1e-5)
