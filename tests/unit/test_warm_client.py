"""What is not asked of Prefect's server about a run that this process created, and what still is."""

import asyncio
import json
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy, StateType
from prefect.context import AsyncClientContext
from prefect.filesystems import LocalFileSystem
from prefect.settings import get_current_settings, temporary_settings
from prefect.states import Running

from ordernotify.worker.warm import execute
from ordernotify.worker.warm_client import WarmClient, warm_clients

SETTINGS = {
    "api.url": "http://prefect.example/api",
    "client.server_version_check_enabled": False,
    "flows.heartbeat_frequency": None,
    "logging.to_api.enabled": False,
}


class Server:
    """Records what it is asked, and answers as Prefect's server does."""

    def __init__(self, state=""):
        self.asked = []
        self.state = state

    def __call__(self, request):
        if request.url.path.endswith("/csrf-token"):
            return httpx.Response(404)  # as a server without that protection
        self.asked.append((request.method, request.url.path.rpartition("/")[2]))
        if request.url.path.endswith("/set_state"):
            state = json.loads(request.content)["state"]
            state |= {"id": str(uuid4())} | ({"type": self.state} if self.state else {})
            return httpx.Response(201, json={"state": state, "status": "ACCEPT", "details": {"type": "accept_details"}})
        if request.method == "GET":
            run = {"id": request.url.path.rpartition("/")[2], "flow_id": str(uuid4()), "name": "asked"}
            return httpx.Response(200, json=run)
        return httpx.Response(204)


@pytest.fixture
def flow_run():
    return FlowRun(id=uuid4(), flow_id=uuid4(), name="known", parameters={"batch_id": str(uuid4())})


def begun(flow_run, server, *, retries=0, known=True):
    """Do with a run what the engine does as it begins it; returns what it read, twice."""

    async def begin():
        policy = FlowRunPolicy(retries=retries, retry_delay=0)
        settings = {"transport": httpx.MockTransport(server)}
        async with WarmClient("http://prefect.example/api", httpx_settings=settings) as client:
            with client.knowing(flow_run if known else FlowRun(id=UUID(int=1), flow_id=uuid4())):
                await client.update_flow_run(flow_run.id, flow_version="1", empirical_policy=policy)
                await client.set_flow_run_state(flow_run.id, Running())
                first = await client.read_flow_run(flow_run.id)
                return first, await client.read_flow_run(flow_run.id)

    return asyncio.run(begin())


def test_a_run_of_ours_begins_with_one_call(flow_run):
    server = Server()
    first, second = begun(flow_run, server)
    assert server.asked == [("POST", "set_state"), ("GET", str(flow_run.id))]
    assert (first.name, second.name) == ("known", "asked")
    assert first.parameters == flow_run.parameters
    assert first.state.is_running()
    assert (first.run_count, first.start_time) == (1, first.state.timestamp)


def test_the_engine_begins_and_ends_a_run_of_ours_with_one_call_each(flow_run, tmp_path):
    server = Server()

    @flow(persist_result=False)
    async def tell(batch_id: UUID) -> int:
        return batch_id.version

    tell.result_storage = LocalFileSystem(basepath=str(tmp_path))

    async def run():
        clients, settings = AsyncClientContext(), {"transport": httpx.MockTransport(server)}
        clients.client = client = WarmClient("http://prefect.example/api", httpx_settings=settings)
        async with clients:
            with client.knowing(flow_run):
                return await execute(flow_run, flow=tell, keep_deployment=False)

    with temporary_settings(SETTINGS):
        state = asyncio.run(run())
    assert state.is_completed()
    # Whatever else the engine of the locked version asked would be on the way of every message.
    assert server.asked == [("POST", "set_state"), ("POST", "set_state")]


def test_what_the_server_made_of_the_state_is_what_is_known(flow_run):
    first, _ = begun(flow_run, Server(state="CANCELLED"))
    assert first.state.type is StateType.CANCELLED
    assert first.run_count == 0


@pytest.mark.parametrize("unlike", [{"retries": 2}, {"known": False}])
def test_everything_else_is_written_down_and_asked(flow_run, unlike):
    server = Server()
    begun(flow_run, server, **unlike)
    assert ("PATCH", str(flow_run.id)) in server.asked


def test_a_run_that_nobody_knows_is_asked_about(flow_run):
    first, _ = begun(flow_run, Server(), known=False)
    assert first.name == "asked"


def test_what_was_known_is_forgotten(flow_run):
    server = Server()

    async def after():
        settings = {"transport": httpx.MockTransport(server)}
        async with WarmClient("http://prefect.example/api", httpx_settings=settings) as client:
            with client.knowing(flow_run):
                pass
            return await client.read_flow_run(flow_run.id)

    assert asyncio.run(after()).name == "asked"


def test_runs_have_no_thread_that_says_that_they_live():
    async def inside():
        async with warm_clients() as client, warm_clients() as again:
            assert again is client
            return get_current_settings().flows.heartbeat_frequency

    with temporary_settings({"api.url": "http://prefect.example/api", "client.server_version_check_enabled": False}):
        assert asyncio.run(inside()) is None
