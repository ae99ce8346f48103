"""What the integration tests of several files share."""

from __future__ import annotations

import pytest

from tests.integration.bench import USED, connected


@pytest.fixture
async def line(urls, tmp_path, monkeypatch):
    """A house connected to a few vendors, as far as its database and its wire; a test turns the wheels."""
    async with connected(urls, tmp_path, monkeypatch, USED) as bench:
        yield bench
