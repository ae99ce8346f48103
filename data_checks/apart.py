"""Runs the check of an extract in a process of its own.

Great Expectations takes seconds to import and its memory is never given back; the worker has events to serve
meanwhile, and for months after.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from ordernotify.core.extracts import Examined, Fault, Held, Known, Reason

_HOME: Final = Path(__file__).resolve().parents[1]
# What a Python needs to start; the house's settings and secrets are no business of a check.
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


class CheckEndedError(Exception):
    """The process of a check ended without a verdict; the message says the kind of error, never a value."""


async def examine_apart(
    path: Path, sha256: str, known: Known, *, at: datetime, docs: Path | None = None
) -> Examined | Fault:
    """Do what ``extract_files.examine`` does, in a process that ends with it; paths are absolute.

    Raises CheckEndedError when that process fails. A caller that is cancelled ends it.
    """
    asked = orjson.dumps(
        {
            "path": str(path),
            "sha256": sha256,
            "contacts": {client: sorted(ids) for client, ids in known.contacts.items()},
            "skus": sorted(known.skus),
            "yesterday": known.yesterday,
            "at": at.isoformat(),
            "docs": str(docs) if docs else "",
        }
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        cwd=_HOME,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # A traceback of somebody's library may show somebody's data.
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told, _ = await process.communicate(asked)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise CheckEndedError(f"the check of an extract ended with {process.returncode}: {told[:200].decode()}")
    return await asyncio.to_thread(_answer, told)


def _answer(told: bytes) -> Examined | Fault:
    answer = orjson.loads(told)
    if "fault" in answer:
        return Fault(answer["fault"])
    return Examined(
        rows=answer["rows"],
        good=[(number, row) for number, row in answer["good"]],
        held=[Held(number, tuple(map(Reason, why)), row) for number, why, row in answer["held"]],
        drifted=answer["drifted"],
    )


def _told(asked: dict[str, Any]) -> dict[str, Any]:
    # Imported here, because whoever only asks must not wait for it.
    from data_checks.extract_files import examine  # noqa: PLC0415 - see above

    known = Known(
        contacts={client: frozenset(ids) for client, ids in asked["contacts"].items()},
        skus=frozenset(asked["skus"]),
        yesterday=asked["yesterday"],
    )
    docs = Path(asked["docs"]) if asked["docs"] else None
    found = examine(Path(asked["path"]), asked["sha256"], known, at=datetime.fromisoformat(asked["at"]), docs=docs)
    if isinstance(found, Fault):
        return {"fault": found.value}
    return {
        "rows": found.rows,
        "good": found.good,
        "held": [(row.number, row.reasons, row.content) for row in found.held],
        "drifted": found.drifted,
    }


def main() -> int:
    """Read a question from standard input and write its answer to standard output; 0, or 1 with the kind of error."""
    answer = sys.stdout.buffer
    # What a library prints must not get into the answer.
    sys.stdout = sys.stderr
    try:
        told = _told(orjson.loads(sys.stdin.buffer.read()))
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold data: only its kind and place pass
        last = traceback.extract_tb(error.__traceback__)[-1]
        answer.write(f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}".encode())
        return 1
    answer.write(orjson.dumps(told))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
