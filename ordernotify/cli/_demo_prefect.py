"""Runs that the demo starts as a person does from a deployment's page in Prefect's UI."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from ordernotify.house import Addresses, HouseError

_WAIT_S: Final = 60.0
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


async def run_deployment(addresses: Addresses, state_dir: Path, deployment: str, **parameters: Any) -> None:
    """Start a run of ``flow/deployment`` and wait for its end.

    Raises HouseError when it ends as anything but completed, or not within a minute.
    """
    password = (state_dir / "keys" / "prefect.password").read_text("ascii").strip()
    async with httpx.AsyncClient(
        base_url=f"{addresses.prefect}/api", auth=("ordernotify", password), trust_env=False, timeout=20
    ) as prefect:
        name = str(uuid4())
        token = (await prefect.get("/csrf-token", params={"client": name})).json()["token"]
        prefect.headers.update({"prefect-csrf-client": name, "prefect-csrf-token": token})
        found = (await prefect.get(f"/deployments/name/{deployment}")).raise_for_status().json()["id"]
        made = await prefect.post(f"/deployments/{found}/create_flow_run", json={"parameters": parameters})
        ended = await _end_of(prefect, made.raise_for_status().json()["id"])
    if ended != "COMPLETED":
        raise HouseError(f"the run of {deployment} is {ended.lower()}; see {state_dir / 'logs' / 'worker.log'}")


async def _end_of(prefect: httpx.AsyncClient, run: str) -> str:
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while True:
        state = str((await prefect.get(f"/flow_runs/{run}")).json()["state_type"])
        if state in _ENDED or asyncio.get_running_loop().time() > deadline:
            return state
        await asyncio.sleep(0.2)
