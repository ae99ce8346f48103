"""A whole house: webhooks in, messages out once, through the Prefect UI, the command line and every kill.

The tests share one house and run in this order; the last one ends it.
"""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("house")]
