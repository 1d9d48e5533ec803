"""What holds for all tests: one thread a process, and `--times N` for N times as many examples of every property."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import is_hypothesis_test, settings
from jaxtyping import config as jaxtyping_config
from threadpoolctl import threadpool_limits

from promptreach.errors import InputError

# Tests share their cores with others: how long one example takes says nothing.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--times", type=int, default=1, help="so many times the examples of every property; use with -m hypothesis"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests state how many examples suit their cost, so a long run multiplies them; hypothesis has no option for it."""
    times = config.getoption("--times")
    for test in {getattr(item, "obj", None) for item in items} if times > 1 else ():
        if test is not None and is_hypothesis_test(test):
            own = test._hypothesis_internal_use_settings
            test._hypothesis_internal_use_settings = settings(own, max_examples=times * own.max_examples)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from a second thread, and lose much on a busy machine; two processes run at once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def faults_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[str]]:
    """Where the faults are that a call raises, by the library's own checks, without the shape checks of the tests."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)

    def places(call: Callable[[], object]) -> list[str]:
        with pytest.raises(InputError) as caught:
            call()
        return [fault.where for fault in caught.value.faults]

    return places
