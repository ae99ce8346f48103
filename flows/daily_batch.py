"""Trigger 4: order extracts, once a day, for the changes that no event announced."""

from __future__ import annotations

from collections import Counter
from datetime import date

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from flows.daily_summary import DEPLOYMENT
from flows.pipeline import show
from tasks.extracts import find_extracts, take_in

# Where, not what: names of files are the business of whoever may look into the folder.
_WHERE = "The page of each extract's check is in the folder `data_docs` of the house's state, below its day."


@flow(
    name="daily-batch",
    persist_result=False,
    log_prints=False,
)
async def daily_batch(on: date | None = None) -> dict[str, int]:
    """Take in every order extract that was not taken in yet, days that were missed first.

    What is news in them goes through the same pipeline as any event. With ``on``, the extracts of that day are
    taken in again: nothing is told twice, and rows that were held get another chance.

    Summaries that are due go out after it, in a run of their own, so that they know of the day's extracts.
    """
    counts: Counter[str] = Counter()
    for extract_id in await find_extracts(on):
        # One after the other, because a later day's status follows an earlier one's.
        counts += Counter({"extracts": 1}) + Counter(await take_in(extract_id))
    await run_deployment(DEPLOYMENT, timeout=0, as_subflow=False, idempotency_key=f"{flow_run.id} summaries")
    await show(dict(counts))
    if counts["extracts"]:
        await create_markdown_artifact(key="data-docs", markdown=_WHERE)
    return dict(counts)
