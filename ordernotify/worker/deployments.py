"""The deployments of prefect.yaml, registered with Prefect's server without questions."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import yaml  # type: ignore[import-untyped]  # a dependency of prefect, which ships no types for it either
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from ordernotify.worker.warm import FLOWS, WORKER_TYPE, WarmWorker
from ordernotify.worker.warm_client import warm_clients

_VERSION_LENGTH: Final = 12


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Entry):
    """When a deployment runs by itself: cron and time zone, or an interval in seconds."""

    slug: str = Field(description="Names the schedule, so that a pause set by a person outlives a release.")
    cron: str | None = None
    timezone: str = "UTC"
    interval: PositiveFloat | None = None
    active: bool = True
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if (self.cron is None) == (self.interval is None):
            raise ValueError("a schedule must have either cron or interval")
        return self

    def when(self) -> CronSchedule | IntervalSchedule:
        """Return the schedule in Prefect's words."""
        if self.cron is not None:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        return IntervalSchedule(interval=timedelta(seconds=self.interval or 0), timezone=self.timezone)


class ConcurrencyLimit(_Entry):
    """How many runs of a deployment there may be at a time, and what happens to one too many."""

    limit: PositiveInt
    collision_strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.ENQUEUE


class WorkPoolChoice(_Entry):
    """The work pool, and the queue in it, that a deployment's runs go to."""

    name: str
    work_queue_name: str | None = None


class Deployment(_Entry):
    """One deployment, with the keys of prefect.yaml that this product uses."""

    name: str
    entrypoint: str
    description: str | None = None
    tags: list[str] = []
    parameters: dict[str, Any] = {}
    schedules: list[Schedule] = []
    concurrency_limit: ConcurrencyLimit | None = None
    work_pool: WorkPoolChoice | None = None


class PrefectFile(_Entry):
    """prefect.yaml. ``pull`` is empty, because the worker already has every flow loaded."""

    name: str = ""
    prefect_version: str = Field(default="", alias="prefect-version")
    pull: tuple[()] = ()
    deployments: list[Deployment]


async def register(prefect_yaml: Path, *, pool: str = "notifications") -> list[str]:
    """Create or update the work pools and all deployments of ``prefect_yaml``; return their ``flow/name``.

    A deployment without a work pool goes to ``pool``. One that is registered as the file says is left alone,
    and an update keeps what people switched in the UI: whether deployment and schedules are paused.

    Raises pydantic's ValidationError for a file that is not as described, FlowNotLoadableError for an
    entrypoint that the worker would refuse, and ValueError for a work pool that exists with another type.
    """
    text = await asyncio.to_thread(prefect_yaml.read_text, encoding="utf-8")
    file = PrefectFile.model_validate(yaml.safe_load(text))
    async with warm_clients() as client:
        for name in sorted({pool} | {entry.work_pool.name for entry in file.deployments if entry.work_pool}):
            await _register_pool(client, name)
        return [await _register(client, entry, pool=pool) for entry in file.deployments]


async def _register_pool(client: PrefectClient, name: str) -> None:
    template = WarmWorker.get_default_base_job_template()
    try:
        existing: WorkPool = await client.read_work_pool(name)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=name, type=WORKER_TYPE, base_job_template=template))
        return
    if existing.type != WORKER_TYPE:
        raise ValueError(f"work pool {name!r} has type {existing.type!r}; it must be {WORKER_TYPE!r}")
    if existing.base_job_template != template:
        await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


async def _register(client: PrefectClient, entry: Deployment, *, pool: str) -> str:
    flow = await FLOWS.load(entry.entrypoint)
    schema = parameter_schema(flow)
    version = _version(entry, schema.model_dump(mode="json"))
    work_pool = entry.work_pool or WorkPoolChoice(name=pool)
    name = f"{flow.name}/{entry.name}"
    existing = await _existing(client, name)
    if existing is not None and (existing.version, existing.work_pool_name) == (version, work_pool.name):
        return name
    limit = entry.concurrency_limit
    await client.create_deployment(
        flow_id=await client.create_flow_from_name(flow.name),
        name=entry.name,
        version=version,
        entrypoint=entry.entrypoint,
        description=entry.description or flow.description,
        tags=entry.tags,
        parameters=entry.parameters,
        parameter_openapi_schema=schema.model_dump(mode="json"),
        enforce_parameter_schema=True,
        schedules=_schedules(entry, existing),
        concurrency_limit=limit.limit if limit else None,
        concurrency_options=(ConcurrencyOptions(collision_strategy=limit.collision_strategy) if limit else None),
        work_pool_name=work_pool.name,
        work_queue_name=work_pool.work_queue_name,
        pull_steps=[],
    )
    return name


async def _existing(client: PrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return await client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _schedules(entry: Deployment, existing: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    switched = {known.slug: known.active for known in (existing.schedules if existing else ())}
    return [
        DeploymentScheduleCreate(
            slug=schedule.slug,
            schedule=schedule.when(),
            active=switched.get(schedule.slug, schedule.active),
            parameters=schedule.parameters,
        )
        for schedule in entry.schedules
    ]


def _version(entry: Deployment, schema: dict[str, Any]) -> str:
    content = json.dumps([entry.model_dump(mode="json"), schema], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:_VERSION_LENGTH]
