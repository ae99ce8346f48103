"""The daily batch of a whole house: an extract in, summaries out, with a vendor in trouble and a worker killed."""

from __future__ import annotations

import csv

import httpx
import pytest

from ordernotify.clock import now
from ordernotify.core.extracts import COLUMNS

pytestmark = [pytest.mark.journey, pytest.mark.xdist_group("house")]


async def started(house, deployment, **parameters):
    """Press Run of a deployment; returns the run's id."""
    async with house.prefect() as prefect:
        found = (await prefect.client.get(f"/deployments/name/{deployment}")).json()["id"]
        answer = await prefect.client.post(f"/deployments/{found}/create_flow_run", json={"parameters": parameters})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


async def ended(house, run):
    async with house.prefect() as prefect:
        return await prefect.completed(run)


def write_extract(house, *rows, series):
    folder = house.state / "extracts"
    folder.mkdir(exist_ok=True)
    path = folder / f"{series}-{now().date().isoformat()}.csv"
    with path.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".part").rename(path)


def row(client, order, status="processing"):
    return dict.fromkeys(COLUMNS, "") | {
        "order_no": order, "client": client, "status": status, "changed_at": "2026-11-02T09:00:00Z", "label": "public",
    }  # fmt: skip


async def mail_clients(house, prefix, count):
    names = [f"{prefix}{number}" for number in range(count)]
    for name in names:
        await house.onboard(name, summary_at="07:00", sendgrid=f"ann@{name}-journey.example")
    return names


async def told(house, names):
    """Wait until every summary of these clients has been delivered, and return them."""

    async def all_of_them():
        rows = await house.fetch(
            "SELECT d.client_id, d.reference FROM delivery d WHERE d.template = 'summary' AND d.client_id = ANY($1)"
            " AND d.status IN ('sent', 'delivered', 'read')",
            names,
        )
        return rows if len(rows) == len(names) else None

    return await house.until(all_of_them, 90)


async def test_a_day_of_extract_and_summaries_through_the_deployments(house):
    names = await mail_clients(house, "daily", 3)
    house.private |= {f"DAILY-{name}" for name in names}
    write_extract(house, *(row(name, f"DAILY-{name}") for name in names), row("nobody", "X"), series="journey")
    run = await started(house, "daily-batch/daily-batch")
    await ended(house, run)

    async def accepted():
        rows = await house.fetch(
            "SELECT count(*) FROM delivery d JOIN orders o ON o.id = d.order_id WHERE o.order_no = ANY($1)"
            " AND d.status IN ('sent', 'delivered')",
            [f"DAILY-{name}" for name in names],
        )
        return rows[0]["count"] == len(names)

    await house.until(accepted)
    for _ in range(2):  # the second one finds nothing to do
        await ended(house, await started(house, "daily-summary/daily-summary", early=True))
    await told(house, names)
    async with httpx.AsyncClient(base_url=house.sandbox_url, trust_env=False) as sandbox:
        for name in names:
            mails = (await sandbox.get("/_control/sendgrid/taken", params={"to": f"ann@{name}-journey.example"})).json()
            summaries = [mail for mail in mails if mail["files"]]
            assert len(summaries) == 1
            assert f"DAILY-{name}: Processing" in summaries[0]["text"]
    triggers = await house.fetch("SELECT DISTINCT trigger FROM event WHERE source IN ('extract', 'house')")
    assert [one["trigger"] for one in triggers] == ["batch"]


async def test_summaries_outlive_a_vendor_that_hangs_and_a_worker_that_is_killed(house):
    names = await mail_clients(house, "nightly", 6)
    for name in names:
        await house.settled([await house.post(name, f"NIGHT-{name}")])
    await house.slow_down("sendgrid", 3)
    await started(house, "daily-summary/daily-summary", early=True)

    async def on_the_wire():
        rows = await house.fetch(
            "SELECT count(*) FROM delivery WHERE template = 'summary' AND client_id = ANY($1) AND status = 'sending'",
            names,
        )
        return rows[0]["count"]

    await house.until(on_the_wire)
    dead = house.kill("worker")
    await house.hurry("sendgrid")
    await house.back("worker", dead)

    async def nothing_open():
        rows = await house.fetch(
            "SELECT count(*) FROM delivery WHERE template = 'summary' AND client_id = ANY($1) AND (status IN"
            " ('planned', 'authorized', 'sending', 'deferred') OR status = 'unknown' AND next_attempt_at < 'infinity')",
            names,
        )
        return rows[0]["count"] == 0

    await house.until(nothing_open, 90)
    await ended(house, await started(house, "daily-summary/daily-summary", early=True))
    rows = await house.fetch(
        "SELECT client_id, count(*) FROM delivery WHERE template = 'summary' AND client_id = ANY($1) GROUP BY 1", names
    )
    assert {one["client_id"]: one["count"] for one in rows} == dict.fromkeys(names, 1)
    # A call that was on its way may have arrived; none arrived twice.
    assert (await house.counts("sendgrid"))["duplicates"] == 0
    async with house.prefect() as prefect:
        runs = (
            await prefect.client.post("/flow_runs/filter", json={"flows": {"name": {"any_": ["daily-summary"]}}})
        ).json()
    # Cut into ranges, and of what the dead worker had on the wire nobody is told that it still runs.
    assert {one["parameters"].get("part") for one in runs} >= {0, 1}
    assert "CRASHED" in {one["state_type"] for one in runs}
    verified = house.run("ledger", "verify")
    assert verified.returncode == 0, verified.stderr
