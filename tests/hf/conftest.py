"""The one large model that more than one test here looks at."""

import pytest

from helpers.models import smollm2_file
from promptreach.hf import OpenModel, open_model


@pytest.fixture(scope="session")
def smollm2() -> OpenModel:
    """The first two layers of SmolLM2-135M; opening it takes ten seconds."""
    return open_model(smollm2_file(), num_layers=2)
