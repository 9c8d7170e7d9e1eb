import pytest

from huiyan.core.errors import EncodingError
from huiyan.data.encodings import SAMPLE_BYTES, guess_encoding, named_encoding

SIMPLIFIED = (
    "编号,评论,情感\n"
    "1,这家酒店的服务态度很好，房间也很干净，下次还会再来。,好评\n"
    "2,快递太慢了，包装也破了，打电话给客服没有人理，失望。,差评\n"
    "3,手机屏幕清晰，电池能用两天，就是有点重，总的来说值这个价钱。,好评\n"
)
TRADITIONAL = (
    "編號,評論,情感\n"
    "1,這家飯店的服務態度很好，房間也很乾淨，下次還會再來。,好評\n"
    "2,快遞太慢了，包裝也破了，打電話給客服沒有人理，失望。,差評\n"
    "3,手機螢幕清晰，電池能用兩天，就是有點重，總的來說值這個價錢。,好評\n"
)
JAPANESE = "番号,レビュー\n1,このホテルはとても良かったです。また来たいと思います。\n"
ENGLISH = "id,review,label\n1,The room was clean and the staff friendly,good\n2,Never again,bad\n"
FRENCH = "id,avis\n1,Très bon hôtel, le personnel était agréable et la chambre très propre à côté de la gare.\n" * 3


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (SIMPLIFIED, "utf-8", "utf-8"),
        (SIMPLIFIED, "gb2312", "gb18030"),
        (SIMPLIFIED, "gbk", "gb18030"),
        (SIMPLIFIED, "gb18030", "gb18030"),
        (SIMPLIFIED, "utf-16-le", "utf-16-le"),
        (SIMPLIFIED, "utf-16-be", "utf-16-be"),
        (TRADITIONAL, "big5", "big5"),
        (TRADITIONAL, "cp950", "big5"),
        (TRADITIONAL, "gb18030", "gb18030"),
        (TRADITIONAL, "utf-16-le", "utf-16-le"),
        (TRADITIONAL, "utf-16-be", "utf-16-be"),
        (JAPANESE, "utf-16-le", "utf-16-le"),
        (JAPANESE, "utf-16-be", "utf-16-be"),
        (ENGLISH, "ascii", "utf-8"),
        (ENGLISH, "utf-16-le", "utf-16-le"),
        (ENGLISH, "utf-16-be", "utf-16-be"),
        (FRENCH, "cp1252", "cp1252"),
        (FRENCH, "utf-8", "utf-8"),
        ("", "ascii", "utf-8"),
    ],
)
def test_real_bytes_are_recognised(text, encoding, expected):
    raw = text.encode(encoding)
    guess = guess_encoding(raw)
    assert guess.name == expected
    assert raw.decode(guess.name) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(encoding):
    raw = SIMPLIFIED.encode(encoding)
    guess = guess_encoding(raw)
    assert (guess.name, guess.runner_up) == (encoding, None)
    assert "byte-order mark" in guess.reason
    assert raw.decode(guess.name) == SIMPLIFIED


def test_a_gb18030_mark_decides():
    assert guess_encoding("\ufeffreview\n".encode("gb18030")).name == "gb18030"


@pytest.mark.parametrize(("encoding", "text"), [("gb18030", SIMPLIFIED), ("big5", TRADITIONAL), ("utf-8", SIMPLIFIED)])
def test_a_sample_that_ends_within_a_character_is_recognised(encoding, text):
    raw = text.encode(encoding)
    expected = guess_encoding(raw).name
    assert {guess_encoding(raw[:end]).name for end in range(len(raw) - 8, len(raw))} == {expected}


def test_hong_kong_characters_need_the_larger_big5():
    text = TRADITIONAL + "4,我哋喺呢度食咗飯，啲嘢好好味。,好評\n"
    assert guess_encoding(text.encode("big5hkscs")).name == "big5hkscs"


def test_the_runner_up_is_the_next_that_reads_differently():
    guess = guess_encoding(TRADITIONAL.encode("big5"))
    assert guess.runner_up is not None
    assert guess.runner_up.startswith("gb18030")  # not cp950, which reads the same
    assert "common" in guess.reason


@pytest.mark.parametrize("damage", [b"\xff", b"\x80", b"\xe4\xbd"])
def test_a_damaged_place_leaves_utf8_what_it_is(damage):
    raw = SIMPLIFIED.encode() * 20
    middle = raw.index(b"\n", len(raw) // 2)
    guess = guess_encoding(raw[:middle] + damage + raw[middle:])
    assert guess.name == "utf-8"
    assert "damaged places near its start: 1" in guess.reason


@pytest.mark.parametrize("damage", [b"\xff", b"\x92", b"caf\xe9s"])
def test_one_damaged_byte_does_not_turn_english_into_another_language(damage):
    assert guess_encoding(ENGLISH.encode() * 50 + damage + b"\n").name == "utf-8"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("번호,리뷰\n1,이 호텔은 정말 좋았습니다. 방도 깨끗하고 직원도 친절했어요.\n", "euc_kr"),
        ("номер,отзыв\n1,Отель очень понравился, номер чистый, персонал приветливый.\n", "cp1251"),
        ("nr,opinia\n1,Bardzo dobry hotel, pokój był czysty, a obsługa uprzejma. Żałuję tylko śniadań.\n", "cp1250"),
    ],
)
def test_an_encoding_we_do_not_guess_is_not_taken_for_another(text, encoding):
    guess = guess_encoding(text.encode(encoding) * 3)
    assert (guess.name, guess.reason) == ("utf-8", "it is not valid UTF-8, and no other encoding reads naturally")


def test_unusual_text_is_recognised():
    names = "地名\n布宜诺斯艾利斯\n蒙特哥贝\n瓦加杜古\n圣萨尔瓦多\n阿尔汉格尔斯克\n特古西加尔巴\n乌兰巴托\n"
    assert guess_encoding(names.encode("gb18030")).name == "gb18030"


def test_bytes_that_are_no_text_fall_back_to_utf8_and_say_so():
    guess = guess_encoding(bytes(range(256)) * 8)
    assert guess.name == "utf-8"
    assert "not valid UTF-8" in guess.reason


@pytest.mark.parametrize(
    ("text", "encoding"), [(SIMPLIFIED, "gb18030"), (TRADITIONAL, "big5"), (SIMPLIFIED, "utf-16-le")]
)
def test_a_damaged_place_leaves_other_encodings_what_they_are(text, encoding):
    raw = text.encode(encoding) * 5
    end = raw.index("\n".encode(encoding), len(raw) // 2)
    damage = b"\x00\xd8" if encoding == "utf-16-le" else b"\xff"
    guess = guess_encoding(raw[:end] + damage + raw[end:])
    assert guess.name == encoding
    assert "damaged places near its start: 1" in guess.reason


def test_characters_above_ascii_count_however_late_in_the_sample():
    raw = (ENGLISH * 3000 + TRADITIONAL).encode("big5")
    assert len(raw) < SAMPLE_BYTES
    assert guess_encoding(raw).name == "big5"


def test_wrong_decodings_stay_far_below_right_ones():
    """The margin that the threshold of a convincing score stands in."""
    from huiyan.data.characters import COMMON
    from huiyan.data.encodings import _CONVINCING, _naturalness

    wrong = [
        TRADITIONAL.encode("big5").decode("gb18030", "ignore"),
        SIMPLIFIED.encode("gb18030").decode("big5", "ignore"),
        SIMPLIFIED.encode().decode("gb18030", "ignore"),
        SIMPLIFIED.encode("utf-16-le").decode("utf-16-be", "ignore"),
        ENGLISH.encode().decode("utf-16-le", "ignore"),
    ]
    right = [SIMPLIFIED, TRADITIONAL, JAPANESE]
    assert max(_naturalness(text, COMMON) for text in wrong) < _CONVINCING - 0.05
    assert min(_naturalness(text, COMMON) for text in right) > 2 * _CONVINCING


@pytest.mark.parametrize(
    ("asked", "name"),
    [("UTF8", "utf-8"), ("gbk", "gb18030"), ("GB2312", "gb18030"), ("Big5", "big5"), ("latin-1", "iso8859-1")],
)
def test_a_named_encoding_is_taken_with_its_superset(asked, name):
    guess = named_encoding(asked)
    assert (guess.name, guess.runner_up) == (name, None)


@pytest.mark.parametrize("asked", ["gb99", "hex", "zlib", "", "a\0b"])
def test_an_unknown_encoding_is_refused(asked):
    with pytest.raises(EncodingError, match="must name a text encoding") as caught:
        named_encoding(asked)
    assert "gb18030" in caught.value.hint


def test_a_full_sample_is_guessed_too():
    raw = (SIMPLIFIED * (SAMPLE_BYTES // len(SIMPLIFIED))).encode("gb18030")[:SAMPLE_BYTES]
    assert guess_encoding(raw).name == "gb18030"
