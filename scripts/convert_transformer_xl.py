"""Turn a ``model.pt`` of Transformer-XL's published code into a folder that Huiyan loads.

That file is a pickled module: opening it runs code that stands in it. So this script is run once, beside the published
code, by somebody who trusts the file; Huiyan itself never opens such files. It needs torch and safetensors alone.

    python convert_transformer_xl.py model.pt OUT --code transformer-xl/pytorch --vocabulary cache.pt --trust

The folder holds config.json and model.safetensors in the layout of `transformers` 4, and with --vocabulary the words
in vocab.txt. Where the published code no longer runs on the torch at hand, its modules still load: none of them is run.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

CONSTANT = "pos_emb.inv_freq"


def main() -> int:
    """Convert; 0 when done, 2 where the command is not usable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="model.pt of the published code")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--code", type=Path, required=True, help="the published code's pytorch folder")
    parser.add_argument("--vocabulary", type=Path, help="cache.pt of the published code, or a text file, a word a line")
    parser.add_argument("--trust", action="store_true", help="open the pickled files, and run the code in them")
    given = parser.parse_args()
    if not given.trust:
        print(f"{given.model} is a pickled file: opening it runs code in it. Add --trust if you do.", file=sys.stderr)
        return 2
    # The pickled classes are found by the names that the published code gives them.
    sys.path[:0] = [str(given.code), str(given.code / "utils")]
    model = torch.load(given.model, map_location="cpu", weights_only=False)
    model = getattr(model, "module", model)  # of DataParallel
    extended = getattr(model, "ext_len", 0)
    if extended:
        print(
            f"{given.model} has ext_len {extended}, and Huiyan reads models of ext_len 0 only: its numbers would be "
            "others. Train one with --ext_len 0.",
            file=sys.stderr,
        )
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "config.json").write_text(json.dumps(config_of(model), indent=2) + "\n")
    save_file(tensors_of(model), given.out / "model.safetensors", metadata={"format": "pt"})
    if given.vocabulary is not None:
        (given.out / "vocab.txt").write_text("".join(f"{word}\n" for word in words_of(given.vocabulary)))
    print(f"{given.out} is written.")
    return 0


def config_of(model: Any) -> dict[str, Any]:
    """Its numbers, by the names of `transformers` 4."""
    first = model.layers[0]
    projections = items_of(model.crit.out_projs)
    embedded = items_of(model.word_emb.emb_projs)
    tied = [
        one is not None and bool(embedded) and one is embedded[min(number, len(embedded) - 1)]
        for number, one in enumerate(projections)
    ]
    n_clusters = len(model.crit.cutoffs)
    return {
        "model_type": "transfo-xl",
        "architectures": ["TransfoXLLMHeadModel"],
        "vocab_size": model.n_token,
        "cutoffs": [int(end) for end in model.word_emb.cutoffs[:-1]],
        "d_model": model.d_model,
        "d_embed": model.d_embed,
        "n_head": model.n_head,
        "d_head": model.d_head,
        "d_inner": first.pos_ff.d_inner,
        "div_val": model.word_emb.div_val,
        "pre_lnorm": bool(first.dec_attn.pre_lnorm),
        "n_layer": model.n_layer,
        "mem_len": model.mem_len,
        "clamp_len": model.clamp_len,
        "same_length": bool(model.same_length),
        "attn_type": model.attn_type,
        "sample_softmax": model.sample_softmax,
        "untie_r": False,
        "tie_word_embeddings": model.crit.out_layers[0].weight is model.word_emb.emb_layers[0].weight,
        "tie_projs": tied + [False] * (n_clusters - len(tied)),
        "dropout": float(model.drop.p),
        "dropatt": float(first.dec_attn.dropatt.p),
    }


def items_of(parameters: Any) -> list[Any]:
    """What stands in a list of parameters, in order."""
    return list(parameters._parameters.values())  # noqa: SLF001 - older torch pickled no length, and list() needs it


def tensors_of(model: Any) -> dict[str, torch.Tensor]:
    """Its parameters, each once."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, parameter in model.named_parameters():
        if id(parameter) in seen or name == CONSTANT:
            continue
        seen.add(id(parameter))
        own = name if name.startswith("crit.") else f"transformer.{name}"
        found[own] = parameter.detach().contiguous()
    # `transformers` has the clusters in their order, the published code the last one first.
    for name in ("crit.cluster_weight", "crit.cluster_bias"):
        if name in found:
            found[name] = found[name].flip(0)
    return found


def words_of(path: Path) -> list[str]:
    """The words of a vocabulary, in the order of their numbers."""
    if path.suffix == ".txt":
        return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()]
    corpus = torch.load(path, weights_only=False)
    return list(corpus.vocab.idx2sym)


if __name__ == "__main__":
    sys.exit(main())
