"""Take in order extracts: find the files, check each one's rows, hold the bad ones, and accept what is news.

What is accepted is an event like any other: the pipeline tells clients of it, and its deduplication and its judgment
of what is news hold here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson
import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_checks.apart import examine_apart
from data_checks.order_rows import event_of
from ordernotify import runtime
from ordernotify.clock import now
from ordernotify.core.events import Admission, OrderEvent, OrderState, admit
from ordernotify.core.extracts import SOURCE, Fault, Held, Row, series_and_day
from ordernotify.platforms._base import Refusal
from ordernotify.runtime import Runtime
from ordernotify.store import extracts, inbox
from ordernotify.store.extracts import Extract, Found, Stamp
from ordernotify.store.inbox import Arrival
from ordernotify.store.source_table import file_of, write_down
from tasks.errors import surprises_made_safe
from tasks.room import room_for_many

log = structlog.get_logger(__name__)

KINDS: Final = frozenset({".csv", ".jsonl", ".parquet"})

# A restart of the database takes seconds, and every part of a task may be repeated.
_WAITS_S = [2.0, 10.0, 30.0]
# Rows in one transaction: few enough that events of the moment are not kept waiting behind it.
_CHUNK = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@task(name="find extracts", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def find_extracts(on: date | None) -> list[UUID]:
    """Register what is new in the folder; returns the extracts of the day ``on``, else all not yet taken in.

    Oldest day first: a day that was missed is caught up before the next one's news.
    """
    house = await runtime.current()
    folder = _folder(house)
    if on is None:
        await _write_table_down(house, folder)
    new = await extracts.unknown_stamps(house.pool, await asyncio.to_thread(_stamps, folder))
    found = [file for stamp in new if (file := await asyncio.to_thread(_hashed, folder, stamp)) is not None]
    await extracts.register(house.pool, house.scribe, found, at=now())
    return await extracts.to_take(house.pool, on=on)


@task(name="take in", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=_WAITS_S)
@surprises_made_safe
async def take_in(extract_id: UUID) -> dict[str, int]:
    """Check an extract, hold its bad rows with their reasons, and accept what the others tell that is news.

    Returns counts. Repeated, after a crash or on purpose, it accepts nothing a second time.
    """
    house = await runtime.current()
    extract = await extracts.read(house.pool, extract_id)
    path = _folder(house) / extract.name
    docs = _docs(house) / extract.day.isoformat() / f"{extract.name}.html"
    known = await extracts.known(house.pool, extract)
    examined = await examine_apart(path, extract.sha256, known, at=now(), docs=docs)
    if isinstance(examined, Fault):
        await extracts.refuse(house.pool, house.scribe, extract, examined, at=now())
        return {"refused": 1}
    await asyncio.to_thread(_write_held, path, examined.held)
    await asyncio.to_thread(
        _forget_old_docs, _docs(house), now().date() - timedelta(days=house.settings.data_docs_days)
    )
    await extracts.hold(house.pool, house.scribe, extract.id, examined.held, at=now())
    accepted = 0
    for start in range(0, len(examined.good), _CHUNK):
        await room_for_many(house)
        accepted += await _accept(house, extract, examined.good[start : start + _CHUNK])
    unchanged = len(examined.good) - accepted
    await extracts.finish(house.pool, house.scribe, extract, examined, accepted=accepted, unchanged=unchanged, at=now())
    return {
        "rows": examined.rows,
        "accepted": accepted,
        "unchanged": unchanged,
        "held": len(examined.held),
        "drifted": int(examined.drifted),
    }


async def _accept(house: Runtime, extract: Extract, rows: Sequence[tuple[int, Row]]) -> int:
    """Accept the news of some rows in one transaction; returns how many."""
    rows_told = {event.dedupe_key: (event, row) for _, row in rows if not isinstance(event := event_of(row), Refusal)}
    fresh = await extracts.fresh(house.pool, [event for event, _ in rows_told.values()])
    states = await extracts.states(house.pool, fresh)
    news = [told for event in fresh if (told := _as_news(states.get(event.order_ref), event)) is not None]
    if not news:
        return 0
    arrival = Arrival(
        source=SOURCE,
        headers={"extract": str(extract.id), "rows": f"{rows[0][0]}-{rows[-1][0]}"},
        body=b"\n".join(orjson.dumps(rows_told[event.dedupe_key][1]) for event in news),
        events=tuple(news),
        remote="",
        at=now(),
    )
    (taken,) = await inbox.accept(house.pool, house.scribe, [arrival])
    return len(taken.accepted)


def _as_news(state: OrderState | None, event: OrderEvent) -> OrderEvent | None:
    """Return the event if it says more than the house knows of its order.

    An extract lists every open order every day, and most have not changed. A row without a detail takes back none
    while the status is the same.
    """
    if state is not None and state.status is event.status and not event.detail:
        event = replace(event, detail=state.detail)
    return None if admit(state, event) in {Admission.SAME, Admission.STALE} else event


def _folder(house: Runtime) -> Path:
    chosen = house.settings.extracts_dir or house.settings.state_dir / "extracts"
    return chosen.absolute()


async def _write_table_down(house: Runtime, folder: Path) -> None:
    """Make today's file of the table that is an extract, once; one that cannot be read calls a person."""
    url, table = house.settings.extracts_sql_url, house.settings.extracts_sql_table
    path = folder / file_of(table, now().date())
    if url is None or not table or await asyncio.to_thread(path.exists):
        return
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    try:
        rows = await write_down(url.get_secret_value(), table, path)
    except Exception as error:  # noqa: BLE001 - of any driver; the files of others must not wait for it
        log.warning("table_unreadable", kind=type(error).__name__)
        await extracts.note_table(house.pool, house.scribe, table, readable=False, at=now())
        return
    log.info("table_written_down", rows=rows)
    await extracts.note_table(house.pool, house.scribe, table, readable=True, at=now())


def _docs(house: Runtime) -> Path:
    return house.settings.state_dir.absolute() / "data_docs"


def _forget_old_docs(folder: Path, before: date) -> None:
    for one in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(ValueError):
            if date.fromisoformat(one.name) < before:
                shutil.rmtree(one, ignore_errors=True)


def _stamps(folder: Path) -> list[Stamp]:
    if not folder.is_dir():
        return []
    return [
        Stamp(
            name=path.name, size=about.st_size, modified_at=_EPOCH + timedelta(microseconds=about.st_mtime_ns // 1000)
        )
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in KINDS and not path.name.startswith(".") and path.is_file() and not path.is_symlink()
        for about in [path.stat()]
    ]


def _hashed(folder: Path, stamp: Stamp) -> Found | None:
    """Return a file with its hash, None if it is gone meanwhile."""
    try:
        with (folder / stamp.name).open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    series, day = series_and_day(stamp.name, otherwise=stamp.modified_at.date())
    return Found(stamp=stamp, sha256=sha256, series=series, day=day)


def _write_held(path: Path, held: Sequence[Held]) -> None:
    """Leave the held rows with their reasons beside the extract, for whoever made it; none leaves no file."""
    target = path.parent / "held" / f"{path.name}.jsonl"
    if not held:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(mode=0o700, exist_ok=True)
    # Complete or not at all, and for our own eyes, as the extract is.
    handle, name = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.writelines(
            orjson.dumps({"row": row.number, "reasons": row.reasons, "content": row.content}) + b"\n" for row in held
        )
    Path(name).replace(target)
