"""Where the databases are: from the settings, or from the file that a running house leaves in its folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from ordernotify.settings import Settings
from ordernotify.store.setup import Urls

_FILE = "urls.json"


class NoHouseError(Exception):
    """No database is known; the message says what to start or set."""


def write_urls(state_dir: Path, urls: Urls) -> None:
    """Leave the URLs of every role in ``state_dir`` (mode 0600), for commands that people run beside a house."""
    handle = os.open(state_dir / _FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(urls), file)


def read_urls(settings: Settings) -> Urls:
    """Return the URLs of every role: settings first, then the running house's file.

    Raises NoHouseError when neither says.
    """
    told = {
        "app": settings.app_url,
        "sealer": settings.sealer_url,
        "reader": settings.reader_url,
        "prefect": settings.prefect_url,
    }
    if all(told[name] is not None for name in ("app", "sealer", "reader")):
        return Urls(**{name: url.get_secret_value() if url else "" for name, url in told.items()})
    path = settings.state_dir / _FILE
    try:
        stored = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NoHouseError(
            f"no house is known here: {path} is not there. Start one with `ordernotify serve`, or set"
            " ORDERNOTIFY_APP_URL, ORDERNOTIFY_SEALER_URL and ORDERNOTIFY_READER_URL."
        ) from None
    return Urls(**stored)
