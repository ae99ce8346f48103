"""What is set up at HubSpot: properties and workflow by API, the app's webhooks by a person; and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ordernotify.platforms._base import Answer, Context, Finding, Step, json_body
from ordernotify.platforms._hubspot_access import HubSpotSettings, call, refusal

GROUP: Final = "ordernotify"

_OK, _NOT_FOUND = 200, 404


def read_property(answer: Answer, context: Context) -> Sequence[Finding]:
    """Return what the answer about the property that starts the workflow says of the set-up."""
    settings: HubSpotSettings = context.settings
    there = answer.status == _OK
    missing = answer.status == _NOT_FOUND
    code = "" if there or missing else refusal(answer, context).code
    receives = settings.client_secret is not None and bool(context.webhook_url)
    return (
        Finding("access", not code, f"HubSpot answers {code}: check the token and its scopes" if code else ""),
        Finding("properties", there, "" if there else "provision: the properties that we write are not there"),
        Finding("order events", receives, "" if receives else "set public_url and client_secret to take webhooks"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return the properties that we write, the workflow that they start, and what a person does."""
    settings: HubSpotSettings = context.settings
    root = f"{settings.properties_path}/{settings.object_type}"
    kinds = {
        settings.status_property: ("Order notice: status", "text"),
        settings.text_property: ("Order notice: text", "textarea"),
        settings.reference_property: ("Order notice: reference", "text"),
    }
    made_group = {"name": GROUP, "label": "Order notices", "displayOrder": -1}
    return (
        Step(
            title="Group of the properties",
            find=call(context, "GET", f"{root}/groups/{GROUP}"),
            exists=lambda answer: answer.status == _OK,
            make=call(context, "POST", f"{root}/groups", json_body(made_group)),
        ),
        *(_property(context, root, name, label, field) for name, (label, field) in kinds.items()),
        Step(
            title="Workflow",
            find=call(context, "GET", f"{settings.flows_path}?limit=100"),
            exists=_has_workflow,
            make=call(context, "POST", settings.flows_path, json_body(workflow(settings))),
            instruction="It is created turned off. Open it, let it send your e-mail to whom the record belongs (the "
            f"words are in {settings.text_property}), leave re-enrolment on, and turn it on.",
        ),
        Step(
            title="Webhooks",
            instruction=f"In the app's settings set the webhook target {context.webhook_url or '(set public_url)'}, "
            f"subscribe to creation and to changes of {settings.event_property} of {settings.object_type}, and put "
            "the app's client secret into client_secret.",
        ),
    )


def _property(context: Context, root: str, name: str, label: str, field_type: str) -> Step:
    made = {"name": name, "label": label, "groupName": GROUP, "type": "string", "fieldType": field_type}
    return Step(
        title=f"Property {name}",
        find=call(context, "GET", f"{root}/{name}"),
        exists=lambda answer: answer.status == _OK,
        make=call(context, "POST", root, json_body(made)),
    )


def _has_workflow(answer: Answer) -> bool:
    body = answer.json()
    found = body.get("results") if isinstance(body, dict) else None
    return isinstance(found, list) and any(isinstance(one, dict) and one.get("name") == GROUP for one in found)


def workflow(settings: HubSpotSettings) -> dict[str, Any]:
    """Return a workflow that enrols a record each time our reference in it changes."""
    known = {"operationType": "ALL_PROPERTY", "operator": "IS_KNOWN", "includeObjectsWithNoValueSet": False}
    named = {
        "operationType": "STRING",
        "operator": "IS_EQUAL_TO",
        "value": settings.reference_property,
        "includeObjectsWithNoValueSet": False,
    }
    sends = {"actionTypeId": "0-4", "fields": {"content_id": str(settings.workflow_email_id)}}
    # A workflow cannot be without a first step; this one waits for a person to put another in its place.
    waits = {"actionTypeId": "0-1", "fields": {"delta": "1", "time_unit": "MINUTES"}}
    step = {"actionId": "1", "actionTypeVersion": 0, "type": "SINGLE_CONNECTION"}
    by_contact = settings.object_number == "0-1"
    return {
        "name": GROUP,
        "type": "CONTACT_FLOW" if by_contact else "PLATFORM_FLOW",
        "flowType": "WORKFLOW",
        "objectTypeId": settings.object_number,
        "isEnabled": False,
        "enrollmentCriteria": {
            "type": "EVENT_BASED",
            "shouldReEnroll": True,
            "eventFilterBranches": [
                {
                    "eventTypeId": "4-655002",  # a property of the record changed
                    "operator": "HAS_COMPLETED",
                    "filterBranchType": "UNIFIED_EVENTS",
                    "filterBranchOperator": "AND",
                    "filterBranches": [],
                    "filters": [
                        {"filterType": "PROPERTY", "property": "hs_name", "operation": named},
                        {"filterType": "PROPERTY", "property": "hs_value", "operation": known},
                    ],
                }
            ],
        },
        "startActionId": "1",
        "nextAvailableActionId": "2",
        "actions": [{**step, **(sends if settings.workflow_email_id else waits)}],
    }
