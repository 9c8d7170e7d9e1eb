"""Where the words of a text stand, in any mixture of Chinese and other scripts."""

import re

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_OTHER = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


def word_spans(text: str) -> list[tuple[int, int]]:
    """The words of a text as places in it, (start, stop): Chinese ones by a dictionary, others by what parts them.

    A punctuation mark is a word of its own; white space belongs to none.
    """
    import rjieba

    spans: list[tuple[int, int]] = []
    end = 0
    for run in _HAN.finditer(text):
        spans += [match.span() for match in _OTHER.finditer(text, end, run.start())]
        start = run.start()
        for word in rjieba.cut(run.group()):
            spans.append((start, start + len(word)))
            start += len(word)
        end = run.end()
    return spans + [match.span() for match in _OTHER.finditer(text, end)]


def group_pieces(pieces: list[tuple[int, int] | None], words: list[tuple[int, int]]) -> list[list[int]]:
    """Which pieces make which word: numbers of pieces, in order, each in one group.

    Neighbours that share a word, or a piece that reaches over several, are one group. A piece without a place (a
    special token) is a group of its own; one that stands in no word, a space, goes with what follows.

    Args:
        pieces: where each piece stands in the text.
        words: where the words stand, in order.
    """
    groups: list[list[int]] = []
    spaces: list[int] = []
    last = -1  # the last word of the group before
    for number, place in enumerate(pieces):
        if place is None:
            groups += [[number]] if not spaces else [spaces, [number]]
            spaces, last = [], -1
            continue
        own = [word for word, (start, stop) in enumerate(words) if start < place[1] and place[0] < stop]
        if not own:
            spaces = [*spaces, number]
        elif own[0] <= last:
            groups[-1] += [*spaces, number]
            spaces, last = [], max(last, own[-1])
        else:
            groups.append([*spaces, number])
            spaces, last = [], own[-1]
    return [*groups, spaces] if spaces else groups
