"""Workers here are those of users: fresh interpreters, which import what they need."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick_workers():
    """No fork stands for a worker."""
