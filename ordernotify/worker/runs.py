"""Flow runs that we start ourselves: created and executed in this process, carrying ids and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import Flow
from prefect.states import Crashed, Pending

from ordernotify.worker.server import MAX_PARAMETER_BYTES
from ordernotify.worker.signals import note_started, tell_when_started
from ordernotify.worker.warm import FLOWS, SUSPENDS, FlowCache, execute, where_we_are
from ordernotify.worker.warm_client import WarmClient

# Prefect stores and shows parameters, names and tags in clear text, so only what identifies nobody gets in:
# our ids (a UUID, or the 32 hexadecimal characters of a delivery), words of our own tables, and numbers.
# A word has no digits and no capitals: phone, order and part numbers are none, names are written otherwise.
ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
WORD: Final = re.compile(r"[a-z]+([_-][a-z]+){0,4}")
LABEL: Final = re.compile(rf"(?:{WORD.pattern}|{ID.pattern}|[0-9]{{1,6}})")
PARAMETER_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
LONGEST_WORD: Final = 40
LABELS_IN_NAME: Final = 6
MESSAGE_CODE: Final = re.compile(r"[a-z]+([._-][a-z]+){0,7}")
NUMBERS: Final = range(-(2**31), 2**31)
# The name of the state of a run that was created before there is work for it.
STANDING_BY: Final = "StandingBy"


def checked_parameters(parameters: Mapping[str, str | int | list[str]]) -> dict[str, str | int | list[str]]:
    """Return ``parameters`` if they may travel through Prefect: ids, words, numbers, lists of ids and words.

    Raises ValueError naming the parameter that is something else, never its value.
    """
    for name, value in parameters.items():
        if not PARAMETER_NAME.fullmatch(name):
            raise ValueError("a parameter's name must be lower case letters, digits and underscores, at most 32")
        if not _may_travel(value):
            raise ValueError(
                f"parameter {name!r} must be an id (a UUID or 32 hexadecimal characters), a lower case word, "
                "a whole number below 2**31, or a list of ids and words; everything else stays in the store"
            )
    if len(json.dumps(dict(parameters)).encode()) > MAX_PARAMETER_BYTES:
        raise ValueError(
            f"parameters {', '.join(parameters)} take more than {MAX_PARAMETER_BYTES} bytes: "
            "pass the id of a batch instead of its members"
        )
    return dict(parameters)


def checked_labels(labels: Iterable[str], *, what: str) -> list[str]:
    """Return ``labels``, each a word, an id or a number of at most six digits.

    Raises ValueError saying ``what`` they were for, never the label itself.
    """
    found = list(labels)
    if not all(LABEL.fullmatch(label) and len(label) <= LONGEST_WORD for label in found):
        raise ValueError(f"{what} must be made of lower case words, ids and numbers of at most six digits")
    return found


class Runs:
    """Starts runs of deployments and executes them in this process."""

    def __init__(self, client: WarmClient, *, flows: FlowCache = FLOWS) -> None:
        self._client = client
        self._flows = flows
        self._by_name: dict[str, DeploymentResponse] = {}
        self._by_id: dict[UUID, DeploymentResponse] = {}

    async def prepare(self, deployment: str) -> None:
        """Look up ``flow/deployment`` and import its flow, so that the first event does not wait for it.

        Raises prefect's ObjectNotFound for a deployment that is not registered, FlowNotLoadableError for one
        whose entrypoint is not ours.
        """
        await self._flow(await self._deployment(deployment))

    async def start(
        self,
        deployment: str,
        parameters: Mapping[str, str | int | list[str]],
        *,
        name: str | None = None,
        tags: Iterable[str] = (),
        standing_by: bool = False,
    ) -> FlowRun:
        """Create a run of ``flow/deployment`` for this process to `execute`; no other worker is given it.

        One that is ``standing_by`` has no work yet, and says so in its state.
        Raises ValueError for parameters, name or tags that are more than ids, words and numbers, and
        prefect's ObjectNotFound for a deployment that is not registered.
        """
        checked = checked_parameters(parameters)
        labels = checked_labels(tags, what="a run's tags")
        if name is not None:
            words = checked_labels(name.split(" "), what="a run's name")
            if len(words) > LABELS_IN_NAME:
                raise ValueError(f"a run's name must have at most {LABELS_IN_NAME} words")
        # Pending, not Scheduled: a scheduled run would be handed to the next worker that asks.
        state: State[Any] = Pending(name=STANDING_BY, message=where_we_are()) if standing_by else Pending()
        try:
            return await self._create(await self._deployment(deployment), checked, name, labels, state)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
        # Somebody deleted the deployment and registered it anew since we looked it up.
        del self._by_name[deployment]
        return await self._create(await self._deployment(deployment), checked, name, labels, state)

    async def remove(self, flow_run_id: UUID) -> None:
        """Remove a run that was created and never executed; one that is gone already is no trouble."""
        with suppress(ObjectNotFound):
            await self._client.delete_flow_run(flow_run_id)

    async def remove_standing(self, *, before: datetime) -> None:
        """Remove the runs that stand by since ``before`` and whose workers, wherever they were, forgot them."""
        for flow_run in await self._standing():
            if flow_run.expected_start_time is not None and flow_run.expected_start_time < before:
                await self.remove(flow_run.id)

    async def _standing(self) -> list[FlowRun]:
        named = FlowRunFilterState(name=FlowRunFilterStateName(any_=[STANDING_BY]))
        return await self._client.read_flow_runs(flow_run_filter=FlowRunFilter(state=named))

    async def execute(self, flow_run: FlowRun, on_started: asyncio.Event) -> State[Any]:
        """Execute a run that `start` created, and return the state in which it ended.

        ``on_started`` is set once the run is Running, and in any case before this returns or raises: a run
        that never got there must not hold up the next.
        """
        loop = asyncio.get_running_loop()
        try:
            if flow_run.deployment_id is None:
                raise ValueError("flow_run must be a run of a deployment, as start() returns it")
            deployment = self._by_id.get(flow_run.deployment_id)
            if deployment is None:
                deployment = self._remember(await self._client.read_deployment(flow_run.deployment_id))
            flow = await self._flow(deployment)
            tell = partial(loop.call_soon_threadsafe, on_started.set)
            with tell_when_started(tell), self._client.knowing(flow_run):
                return await execute(flow_run, flow=flow, keep_deployment=SUSPENDS in flow_run.tags)
        finally:
            on_started.set()

    async def mark_crashed(self, flow_run_id: UUID, message_code: str) -> bool:
        """Record that the process of a run died; return whether that was news to the server.

        A run that has ended, or that the server no longer knows, is left alone. ``message_code`` is a word
        such as ``worker_lost``; raises ValueError for free text.
        """
        if not MESSAGE_CODE.fullmatch(message_code):
            raise ValueError("message_code must be lower case words joined by dots, dashes or underscores")
        try:
            flow_run = await self._client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            return False
        if flow_run.state is not None and flow_run.state.is_final():
            return False
        # Forced: nobody is left to answer a refusal, and a run being cancelled would be refused.
        await self._client.set_flow_run_state(flow_run_id, Crashed(message=message_code), force=True)
        return True

    async def end_dead(self, *, host: str, alive: Callable[[int], bool]) -> None:
        """End the runs whose process, on this machine, is no more, and remove those that stand by for it.

        Nobody else would: such a run would stay Running for good.
        """

        def is_dead(place: str | None) -> bool:
            machine, _, pid = (place or "").rpartition(":")
            return machine == host and pid.isdigit() and not alive(int(pid))

        at_work = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING]))
        for flow_run in await self._client.read_flow_runs(flow_run_filter=FlowRunFilter(state=at_work)):
            if is_dead(flow_run.infrastructure_pid):
                await self.mark_crashed(flow_run.id, "worker_lost")
        for flow_run in await self._standing():
            if flow_run.state is not None and is_dead(flow_run.state.message):
                await self.remove(flow_run.id)

    async def _create(
        self,
        deployment: DeploymentResponse,
        parameters: dict[str, str | int | list[str]],
        name: str | None,
        tags: list[str],
        state: State[Any],
    ) -> FlowRun:
        return await self._client.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, state=state, name=name, tags=tags
        )

    async def _deployment(self, name: str) -> DeploymentResponse:
        if name not in self._by_name:
            self._by_name[name] = self._remember(await self._client.read_deployment_by_name(name))
        return self._by_name[name]

    def _remember(self, deployment: DeploymentResponse) -> DeploymentResponse:
        self._by_id[deployment.id] = deployment
        return deployment

    async def _flow(self, deployment: DeploymentResponse) -> Flow[..., Any]:
        flow = await self._flows.load(deployment.entrypoint)
        if _running not in flow.on_running_hooks:
            flow.on_running(_running)
        return flow


def _running(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  # Prefect names them
    note_started()


def _may_travel(value: object) -> bool:
    match value:
        case bool():
            return False
        case int():
            return value in NUMBERS
        case str():
            return _is_id_or_word(value)
        case list():
            return all(isinstance(item, str) and _is_id_or_word(item) for item in value)
        case _:
            return False


def _is_id_or_word(text: str) -> bool:
    return bool(ID.fullmatch(text)) or (len(text) <= LONGEST_WORD and bool(WORD.fullmatch(text)))
