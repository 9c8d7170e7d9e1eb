"""Words of a text that is written without spaces between them."""


def segment_words(text: str) -> list[str]:
    """The words of a text, Chinese ones found by a dictionary and a hidden Markov model; white space is left out.

    Source: jieba's algorithm, in rjieba's implementation.
    """
    import rjieba

    return [word for word in rjieba.cut(text) if not word.isspace()]
