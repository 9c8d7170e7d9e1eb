"""Tokenizers of checkpoints that have no tokenizer.json: SentencePiece's files, vocab.json with merges.txt, vocab.txt.

A family is a ``Layout``: how the ids lie beside the pieces of the file, and which special tokens frame a text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from huiyan.core.errors import SourceError
from huiyan.core.json_files import read_object
from huiyan.text.piece_file import Kind, PieceFile, read_pieces
from huiyan.text.whole_words import whole_words, words_of_file
from huiyan.text.wordpiece import wordpiece_from_vocabulary

VOCABULARY_FILE, JSON_VOCABULARY_FILE, MERGES_FILE = "vocab.txt", "vocab.json", "merges.txt"
TARGET_VOCABULARY_FILE = "target_vocab.json"
PIECE_FILES = ("spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model", "source.spm", "target.spm")
"""Names under which SentencePiece's files lie."""
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_UNREACHABLE = "\U0010ffff"  # no character: a piece that begins with it comes out of no text
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NOT_SPECIAL = ("add_bos_token", "add_eos_token")

Roles = dict[str, str]


@dataclass(frozen=True)
class Layout:
    """How a family of checkpoints lays out its ids and frames a text.

    Args:
        single: around one text, as `tokenizers` writes templates; empty for nothing.
        pair: around two.
        roles: its special tokens, unless tokenizer_config.json names others; those that the file lacks come last.
        first: what the ids begin with in place of the file's first three pieces (fairseq's habit); empty for the file's
            own order.
        n_sentinels: `<extra_id_N>` pieces at the end, the last one first (T5).
        lowers: whether letters are made small and lose their accents, unless tokenizer_config.json says otherwise.
        words: the pattern that cuts a text before its bytes are merged; empty is GPT-2's.
        composed: whether characters are composed first (NFC).
    """

    single: str = ""
    pair: str = ""
    roles: Roles = field(default_factory=dict[str, str])
    first: tuple[str, ...] = ()
    n_sentinels: int = 0
    lowers: bool = False
    words: str = ""
    composed: bool = False


_BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
_FAIRSEQ = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_T5 = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
_LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_XL = {"eos_token": "<eos>", "unk_token": "<unk>"}
_END = "<|endoftext|>"
_GPT2 = {"bos_token": _END, "eos_token": _END, "unk_token": _END}
_QWEN = {"eos_token": _END, "pad_token": _END}
_FRAMED = ("{cls}:0 $A:0 {sep}:0", "{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1")
_DOUBLE = ("{cls}:0 $A:0 {sep}:0", "{cls}:0 $A:0 {sep}:0 {sep}:0 $B:0 {sep}:0")
_ENDED = ("$A:0 {eos}:0", "$A:0 {eos}:0 $B:0 {eos}:0")
_BEGUN = ("{bos}:0 $A:0", "{bos}:0 $A:0 {bos}:1 $B:1")

LAYOUTS = {
    "albert": Layout(*_FRAMED, {**_BERT, "pad_token": "<pad>", "unk_token": "<unk>"}, lowers=True),
    "bart": Layout(*_DOUBLE, _FAIRSEQ),
    "deberta-v2": Layout(*_FRAMED, _BERT),
    "gpt2": Layout("", "", _GPT2),
    "llama": Layout(*_BEGUN, _LLAMA),
    "marian": Layout("$A:0 {eos}:0", "$A:0 $B:0 {eos}:0", _T5),
    "mistral": Layout(*_BEGUN, _LLAMA),
    "mt5": Layout(*_ENDED, _T5, n_sentinels=100),
    "qwen2": Layout("", "", _QWEN, words=_QWEN_WORDS, composed=True),
    "qwen3": Layout("", "", _QWEN, words=_QWEN_WORDS, composed=True),
    "roberta": Layout(*_DOUBLE, _FAIRSEQ),
    "t5": Layout(*_ENDED, _T5, n_sentinels=100),
    "xlm-roberta": Layout(*_DOUBLE, _FAIRSEQ, first=("<s>", "<pad>", "</s>", "<unk>")),
}
"""By the ``model_type`` of config.json."""


def tokenizer_from_older_files(
    folder: Path, settings: Mapping[str, Any], *, target: bool = False
) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """The tokenizer of a folder without tokenizer.json, and its settings with what the family takes for granted.

    Args:
        folder: of a checkpoint.
        settings: of tokenizer_config.json.
        target: of a translation model, for the language it writes.
    Raises:
        SourceError: the folder has no file we know, its family is not known, or a file is damaged.
    """
    if (folder / VOCABULARY_FILE).is_file() and _family_of(folder) == "transfo-xl":
        return _of_words(folder / VOCABULARY_FILE, settings)
    if (folder / VOCABULARY_FILE).is_file():
        return wordpiece_from_vocabulary(folder / VOCABULARY_FILE, dict(settings)), dict(settings)
    merged = (folder / JSON_VOCABULARY_FILE).is_file() and (folder / MERGES_FILE).is_file()
    found = next((folder / name for name in PIECE_FILES if (folder / name).is_file()), None)
    if not merged and found is None:
        raise SourceError(
            f"{folder} has no tokenizer.json, and none of {VOCABULARY_FILE}, {MERGES_FILE}, {', '.join(PIECE_FILES)}.",
            hint="Load the tokenizer once in transformers and call save_pretrained on the folder: it writes "
            "tokenizer.json.",
        )
    layout = _layout_of(folder, settings)
    settings = {**layout.roles, **settings}
    roles = {role: _spelled(settings.get(role)) for role in settings if role.endswith("_token")}
    roles = {role: token for role, token in roles.items() if token and role not in _NOT_SPECIAL}
    if (folder / "source.spm").is_file():
        backend = _translator(folder, roles, target=target)
    elif found is not None:
        backend = _of_pieces(read_pieces(found), layout, settings, roles)
    else:
        backend = _of_merges(folder, layout, settings)
    special = dict.fromkeys(token for token in roles.values() if token)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    _frame(backend, layout, settings, roles)
    return backend, settings


def _family_of(folder: Path) -> str:
    config = folder / "config.json"
    return str(read_object(config).get("model_type", "")) if config.is_file() else ""


def _of_words(path: Path, settings: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """Transformer-XL's: words, and the end of a line; text that is cut into words already."""
    words = words_of_file(path)
    lacking = [token for token in _XL.values() if token not in words]
    if lacking:
        raise SourceError(f"{path} has no {lacking[0]}.", hint="Fetch the model again.")
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = whole_words(vocabulary, unknown=_XL["unk_token"], end_of_line=_XL["eos_token"])
    # The end of a line is one of the words here, and ends no text.
    return backend, {**settings, "unk_token": _XL["unk_token"]}


def _layout_of(folder: Path, settings: Mapping[str, Any]) -> Layout:
    family = _family_of(folder)
    if family in LAYOUTS:
        return LAYOUTS[family]
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast").removesuffix("Tokenizer").lower()
    known = {family.replace("-", ""): family for family in LAYOUTS}
    if name in known:
        return LAYOUTS[known[name]]
    raise SourceError(
        f"{folder} has no tokenizer.json, and how the family {family or name or 'it is of'!r} frames a text is not "
        f"known. Known are {', '.join(LAYOUTS)}, and every vocab.txt.",
        hint="Load the tokenizer once in transformers and call save_pretrained on the folder: it writes "
        "tokenizer.json.",
    )


def _spelled(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else token if isinstance(token, str) else ""


def _frame(backend: tokenizers.Tokenizer, layout: Layout, settings: Mapping[str, Any], roles: Roles) -> None:
    single, pair = layout.single, layout.pair
    if (single, pair) == _BEGUN:
        if not settings.get("add_bos_token", True):
            single, pair = "$A:0", "$A:0 $B:1"
        if settings.get("add_eos_token", False):
            single, pair = f"{single} {{eos}}:0", pair.replace("$A:0", "$A:0 {eos}:0") + " {eos}:1"
    names = {role.removesuffix("_token"): token for role, token in roles.items()}
    used = [token for name, token in names.items() if f"{{{name}}}" in pair]
    ids = [(token, backend.token_to_id(token)) for token in dict.fromkeys(used)]
    if used:
        backend.post_processor = processors.TemplateProcessing(
            single=single.format(**names), pair=pair.format(**names), special_tokens=ids
        )


def _of_pieces(file: PieceFile, layout: Layout, settings: Mapping[str, Any], roles: Roles) -> tokenizers.Tokenizer:
    """SentencePiece as it is, with the ids of the family."""
    pieces = [*((token, 0.0) for token in layout.first), *file.pieces[3:]] if layout.first else list(file.pieces)
    there = {piece for piece, _ in pieces}
    n_sentinels = int(settings.get("extra_ids", layout.n_sentinels))
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(n_sentinels))]
    last = [token for token in dict.fromkeys(roles.values()) if token not in there]
    unknown = roles.get("unk_token") or next(iter(file.of_kind(Kind.UNKNOWN)), None)
    first: list[normalizers.Normalizer] = []
    if layout.lowers:
        first += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if not settings.get("keep_accents", False):
            first += [normalizers.NFKD(), normalizers.StripAccents()]
        if settings.get("do_lower_case", True):
            first.append(normalizers.Lowercase())
    elif settings.get("do_lower_case", False):
        first.append(normalizers.Lowercase())
    backend = _build(
        file, [*pieces, *((token, 0.0) for token in (*sentinels, *last))], unknown, first, legacy=_legacy(settings)
    )
    if settings.get("split_by_punct", False):
        spaces = backend.pre_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(behavior="isolated"), spaces])
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in sentinels])
    return backend


def _legacy(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("legacy", False))


def _build(
    file: PieceFile,
    pieces: Sequence[tuple[str, float]],
    unknown: str | None,
    first: Sequence[normalizers.Normalizer],
    *,
    legacy: bool = True,
) -> tokenizers.Tokenizer:
    """A tokenizer of these pieces that treats a text as the file says."""
    id_of = {piece: number for number, (piece, _) in enumerate(pieces)}
    if file.is_bpe:
        backend = tokenizers.Tokenizer(
            models.BPE(id_of, _merges(file, id_of), unk_token=unknown, fuse_unk=True, byte_fallback=file.byte_fallback)
        )
    else:
        backend = tokenizers.Tokenizer(
            models.Unigram([*pieces], unk_id=id_of.get(unknown or ""), byte_fallback=file.byte_fallback)
        )
    steps = [*first, *([normalizers.Precompiled(file.replaced)] if file.replaced else [])]
    if file.spaces_joined:
        steps += [normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")]
    # In the newer manner a space is put before the text, not again after each special token. "first" is told by the
    # place in the text as it came, so that it finds nothing to do where spaces in front were taken away.
    again = legacy or not file.is_bpe or file.spaces_joined
    scheme = ("always" if again else "first") if file.space_before else "never"
    if file.spaces_joined or scheme != "always":
        split = file.splits_at_spaces and not file.is_bpe
        backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme, split=split)
    else:
        steps += [normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)]  # one more, however many there are
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    backend.decoder = _decoder(file)
    own = [AddedToken(piece, special=False, normalized=False) for piece in file.of_kind(Kind.USER_DEFINED)]
    if own:
        backend.add_tokens(own)
    return backend


def _decoder(file: PieceFile) -> decoders.Decoder:
    strip = [decoders.Strip(content=" ", left=1, right=0)] if file.space_before else []
    bytes_back = [decoders.ByteFallback()] if file.byte_fallback else []
    plain = decoders.Replace(_UNREACHABLE, "")
    return decoders.Sequence([plain, decoders.Replace(_SPACE, " "), *bytes_back, decoders.Fuse(), *strip])


def _merges(file: PieceFile, id_of: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs that make each piece, the best piece first."""
    normal = [
        (piece, score)
        for (piece, score), kind in zip(file.pieces, file.kinds, strict=True)
        if kind is Kind.NORMAL and len(piece) > 1
    ]
    merges: list[tuple[str, str]] = []
    for piece, _ in sorted(normal, key=lambda scored: -scored[1]):
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        merges += sorted(
            (half for half in halves if half[0] in id_of and half[1] in id_of),
            key=lambda half: (id_of[half[0]], id_of[half[1]]),
        )
    return merges


def _of_merges(folder: Path, layout: Layout, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """GPT-2's byte-level BPE. Source: Radford et al. 2019, section 2.2, and the published ``encoder.py``."""
    vocabulary = _vocabulary(folder / JSON_VOCABULARY_FILE)
    lines = (folder / MERGES_FILE).read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.rstrip("\r").split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise SourceError(f"{folder / MERGES_FILE} has two pieces a line. Got {' '.join(wrong)!r}.")
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, [(pair[0], pair[1]) for pair in pairs]))
    except Exception as error:  # the binding raises bare Exception
        raise SourceError(f"{folder} has merges of pieces that {JSON_VOCABULARY_FILE} lacks: {error}.") from error
    if layout.composed:
        backend.normalizer = normalizers.NFC()
    spaced = bool(settings.get("add_prefix_space", False))
    if layout.words:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(layout.words), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=spaced, use_regex=False),
            ]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    backend.decoder = decoders.ByteLevel()
    return backend


def _translator(folder: Path, roles: Roles, *, target: bool) -> tokenizers.Tokenizer:
    """Marian's: a file of pieces for each language, and ids from vocab.json, which both share unless each has one.

    A piece that only the other language has keeps its id and comes out of no text.
    """
    path = folder / ("target.spm" if target else "source.spm")
    file = read_pieces(path)
    if file.is_bpe:
        raise SourceError(f"{path} is BPE. The files of Marian's checkpoints are Unigram, and those are read.")
    own = folder / TARGET_VOCABULARY_FILE
    ids = _vocabulary(own if target and own.is_file() else folder / JSON_VOCABULARY_FILE)
    if sorted(ids.values()) != list(range(len(ids))):
        raise SourceError(f"{folder / JSON_VOCABULARY_FILE} must number its {len(ids)} pieces from 0, each once.")
    scores = dict(file.pieces)
    worst = min(scores.values())
    codes = [piece for piece in ids if piece.startswith(">>") and piece.endswith("<<")]
    special = {*roles.values(), *codes}
    pieces = [
        (piece if piece in scores or piece in special else _UNREACHABLE + piece, scores.get(piece, worst))
        for piece in sorted(ids, key=ids.__getitem__)
    ]
    backend = _build(file, pieces, roles.get("unk_token"), [])
    backend.add_special_tokens([AddedToken(code, special=True, normalized=False) for code in codes])
    return backend


def _vocabulary(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise SourceError(f"{path} is missing: it holds the ids of the pieces.", hint="Fetch the model again.")
    found = read_object(path)
    if not all(isinstance(number, int) and number >= 0 for number in found.values()):
        raise SourceError(f"{path} must give each piece a number from 0.")
    return {piece: int(number) for piece, number in found.items()}
