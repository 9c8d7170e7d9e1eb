import pytest

from huiyan.workflows import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.2, "under 1 s"), (45.4, "45 s"), (59.6, "1 min 00 s"), (287, "4 min 47 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds, words):
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"), [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_420_000_000, "1.42 GB")]
)
def test_sizes(n_bytes, words):
    assert wording.size(n_bytes) == words


def test_numbers():
    assert wording.score(-0.1234) == "−0.123"
    assert wording.score(None) == wording.percent(None) == wording.count(None) == "–"
    assert wording.percent(0.7244) == "72.4 %"
    assert wording.count(22_714_371) == "22,714,371"


def test_printable_keeps_every_script_and_drops_what_steers_a_terminal():
    assert (
        wording.printable("差评 é \N{WOMAN}\u200d\N{PERSONAL COMPUTER}")
        == "差评 é \N{WOMAN}\u200d\N{PERSONAL COMPUTER}"
    )
    assert wording.printable("a\nb\tc\u3000d") == "a b c d"
    assert wording.printable("\x1b[31m\u202e\x00\ud800") == "�[31m���"


def row(name, f1, support):
    return {"name": name, "f1": f1, "support": support}


def test_worst_classes_are_those_of_lowest_f1_that_were_tested():
    fifty = [row(str(i), i / 100, 1) for i in range(50)]
    assert wording.worst_classes(fifty) == fifty
    many = [row("never tested", 0.0, 0), *[row(str(i), 1 - i / 100, 1) for i in range(60)]]
    assert [one["name"] for one in wording.worst_classes(many)] == [str(i) for i in range(59, 39, -1)]


def baseline(name, value, verdict):
    return {
        "name": name,
        "metrics": {"macro_f1": {"value": value}},
        "comparison": {"metric": "macro_f1", "verdict": verdict},
    }


def test_the_verdict_is_that_against_the_strongest_baseline():
    report = {"baselines": [baseline("weak", 0.2, "better"), baseline("strong", 0.7, "undecided")]}
    assert wording.verdict_in_short(report) == ("undecided", "Not shown to be better than strong")
    assert wording.verdict_in_short({"baselines": []}) == ("", "")


def test_the_result_in_a_sentence():
    metrics = {"accuracy": {"value": 0.724, "low": 0.69, "high": 0.756}}
    report = {"test": {"rows": 1700, "metrics": metrics}}
    expected = "The model gives the right label to 72.4 % of 1,700 test texts (95 % interval: 69.0 % to 75.6 %)."
    assert wording.result_sentence(report) == expected
    metrics["accuracy"]["low"] = None
    assert wording.result_sentence(report) == "The model gives the right label to 72.4 % of 1,700 test texts."
    assert wording.result_sentence({"test": {"rows": 0, "metrics": {}}}) == "The model was not scored."
