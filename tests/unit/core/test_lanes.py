"""Lanes: what they compute is what one thread would, and they leave torch's threads as they were."""

import sys
import threading
import time

import pytest
import torch

from huiyan.core.lanes import MOST_LANES, Lanes

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 4])
def cores(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(autouse=True)
def _cores(cores: int) -> object:
    before, interval = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(cores)
    yield
    assert torch.get_num_threads() == cores, "the lanes changed what the caller has"
    assert sys.getswitchinterval() == interval
    torch.set_num_threads(before)


def test_there_are_as_many_as_cores_and_each_has_its_share(cores: int) -> None:
    with Lanes(CPU) as lanes:
        assert lanes.count == cores
        found = [lanes.submit(torch.get_num_threads) for _ in range(9)]
        assert {future.result() for future in found} == {1}
    assert Lanes(torch.device("meta")).count == 1


def test_many_cores_are_shared_out(cores: int) -> None:
    torch.set_num_threads(2 * MOST_LANES)
    with Lanes(CPU) as lanes:
        assert lanes.count == MOST_LANES
        assert lanes.submit(torch.get_num_threads).result() == 2
    torch.set_num_threads(cores)


def test_they_run_side_by_side(cores: int) -> None:
    together = threading.Barrier(cores, timeout=20)
    with Lanes(CPU) as lanes:
        for future in [lanes.submit(together.wait) for _ in range(cores)]:
            future.result()  # would break after the timeout if one had to wait for another


def test_an_error_is_that_of_its_item(cores: int) -> None:
    with Lanes(CPU) as lanes:
        good, bad = lanes.submit(divmod, 7, 2), lanes.submit(divmod, 7, 0)
        assert good.result() == (3, 1)
        with pytest.raises(ZeroDivisionError):
            bad.result()


def test_what_has_not_begun_when_they_close_is_given_up() -> None:
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.05)
        done.append(number)

    with Lanes(CPU) as lanes:
        futures = [lanes.submit(slow, number) for number in range(40)]
    assert all(future.done() for future in futures)
    assert len(done) == sum(not future.cancelled() for future in futures)


def test_the_interpreter_is_left_as_it_was_whoever_ends_last(cores: int) -> None:
    before = sys.getswitchinterval()
    first, second = Lanes(torch.device("cpu")), Lanes(torch.device("cpu"))
    first.submit(int).result()
    second.submit(int).result()
    assert sys.getswitchinterval() <= 0.001 or cores == 1
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before
