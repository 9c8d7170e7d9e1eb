"""A `tokenizers` Unigram tokenizer from its pieces, their scores and its table of replaced characters."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a space inside a piece."""


def unigram_tokenizer(
    pieces: Sequence[tuple[str, float]], replaced: Mapping[str, str], *, unknown: str, begin: str, end: str
) -> tokenizers.Tokenizer:
    """A tokenizer as SentencePiece's Unigram models are read, for texts as they are.

    Characters are replaced, runs of spaces become one, a space is put before the text and stands as ▁; then the most
    probable pieces are taken (Kudo 2018, "Subword Regularization"), and neighbouring unknown characters become one
    unknown piece. A text is framed by ``begin`` and ``end``, a pair as begin, text, end, end, pair, end.

    Args:
        pieces: each with its log-probability, in the order of their ids.
        replaced: what single characters become, before anything else.
        unknown: the piece that stands for characters no piece has.
        begin: the piece before a text.
        end: the piece after it.
    """
    id_of = {piece: number for number, (piece, _) in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.Unigram([*pieces], unk_id=id_of[unknown], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(character_map(replaced)), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_MARK, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, id_of[begin]), (end, id_of[end])],
    )
    tokenizer.add_special_tokens([AddedToken(piece, special=True) for piece in (begin, end, unknown)])
    return tokenizer


def character_map(replaced: Mapping[str, str]) -> bytes:
    """What single characters become, as `normalizers.Precompiled` reads it: SentencePiece's compiled character map.

    That is the size of a double array in bytes, the array (each unit 32 bits, little-endian), and the replacements,
    each ended by a zero byte. The array is a trie over the UTF-8 bytes of the characters: from the node at ``i`` byte
    ``c`` leads to ``i ^ offset(i) ^ c``, whose label is ``c``; a node with the leaf bit has, at ``i ^ offset(i)``, the
    place where its replacement begins.

    Source: Yata, darts-clone; Kudo and Richardson 2018, "SentencePiece", section 3.3.

    Args:
        replaced: single characters, none of them U+0000, and what they become; nothing of it U+0000.
    """
    root = _Node()
    texts = bytearray()
    for character, text in sorted(replaced.items()):
        node = root
        for byte in character.encode():
            node = node.children.setdefault(byte, _Node())
        node.begins_at = len(texts)
        texts += text.encode() + b"\0"
    array = _DoubleArray()
    array.place(root, 0)
    units = array.units
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + bytes(texts)


@dataclass
class _Node:
    """A node of the trie; ``begins_at`` is where its replacement begins, if a character ends here."""

    children: dict[int, "_Node"] = field(default_factory=dict)
    begins_at: int | None = None


class _DoubleArray:
    _LEAF, _VALUE = 1 << 8, 1 << 31

    def __init__(self) -> None:
        self.units: list[int] = [0] * 256
        self._taken = {0}
        self._bases: set[int] = set()
        self._free_from = 1

    def place(self, node: _Node, at: int) -> None:
        """Put the children of the node at ``at`` into the array, and theirs."""
        labels = [*([0] if node.begins_at is not None else []), *sorted(node.children)]
        base = self._free_base(labels)
        self.units[at] |= (at ^ base) << 10
        for label in labels:
            self._taken.add(base ^ label)
        if node.begins_at is not None:
            self.units[at] |= self._LEAF
            self.units[base] = self._VALUE | node.begins_at
        for label in node.children:
            self.units[base ^ label] = label
        for label, child in node.children.items():
            self.place(child, base ^ label)

    def _free_base(self, labels: Sequence[int]) -> int:
        """A base of its own from which every label leads to a free unit."""
        while self._free_from in self._taken:
            self._free_from += 1
        first = self._free_from
        while True:
            base = first ^ labels[0]
            wanted = [base ^ label for label in labels]
            if base and base not in self._bases and self._taken.isdisjoint(wanted):
                self._bases.add(base)
                size = 256 * (max(*wanted, base) // 256 + 1)
                self.units += [0] * (size - len(self.units))
                return base
            first += 1
