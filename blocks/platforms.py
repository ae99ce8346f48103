"""One Block a platform or carrier, made from its settings model; secrets are stored encrypted and shown masked.

Save one named ``ordernotify`` in the Prefect UI, and every process of the house finds it within half a minute.
"""

from __future__ import annotations

import re
from typing import Any

from prefect.blocks.core import Block
from pydantic import ConfigDict

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier
from ordernotify.credentials import block_slug
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform

# Prefect refuses these in the name of a block type.
_NOT_IN_A_NAME = re.compile(r"[/%&><]")


def _block(platform: Platform | Carrier) -> type[Block]:
    name = f"{''.join(word.title() for word in platform.name.split('_'))}Credentials"
    attributes: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"How ordernotify reaches {platform.title}.",
        "_block_type_name": f"ordernotify {_NOT_IN_A_NAME.sub(' ', platform.title)}",
        "_block_type_slug": block_slug(platform.name),
        # Prefect writes to a block after making it, which a frozen model refuses.
        "model_config": ConfigDict(frozen=False, extra="ignore"),
    }
    return type(name, (platform.settings, Block), attributes)


BLOCKS: dict[str, type[Block]] = {name: _block(entry) for name, entry in {**PLATFORMS, **CARRIERS}.items()}
globals().update({block.__name__: block for block in BLOCKS.values()})
