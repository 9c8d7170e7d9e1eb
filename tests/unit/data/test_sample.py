from huiyan.data.sample import spread


def test_rows_are_spread_over_the_whole() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([3, 1], 4) == [3, 1]
