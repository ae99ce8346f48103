"""What an admin deploys to Salesforce: fields by API; Flows, outbound message and permissions as files."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from ordernotify.platforms._base import Answer, Context, Step, json_body
from ordernotify.platforms._salesforce_access import SalesforceSettings, call
from ordernotify.platforms._salesforce_events import SECRET, wanted_fields

SEND, TELL, STATUS, PERMISSIONS = "OrderNotify_Send", "OrderNotify_Tell", "OrderNotify_Status", "OrderNotify"
SECRET_HERE: Final = "PUT-WEBHOOK-SECRET-HERE"  # noqa: S105 - stands where a person puts one
USERNAME_HERE: Final = "PUT-USERNAME-HERE"
# The last version whose e-mail action has the inputs that are used here.
_FLOW_VERSION = "64.0"
_CUSTOM = "__c"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_METADATA = 'xmlns="http://soap.sforce.com/2006/04/metadata"'


def provision(context: Context) -> Sequence[Step]:
    """Return the fields that we write, then the files that make Salesforce send, and tell us."""
    settings: SalesforceSettings = context.settings
    files = package(context)
    return (
        *(_field(context, name, metadata) for name, metadata in _fields(settings).items()),
        *(
            Step(
                title=f"File {name}",
                instruction=f"Save this as {name} in an empty folder named ordernotify:\n{text}",
            )
            for name, text in files.items()
        ),
        Step(
            title="Deploy the files",
            instruction="Where the outbound message is among them, put webhook_secret and the user that it runs "
            "as where the file says so. Then run: sf project deploy start --metadata-dir ordernotify. Give the "
            "integration's user the permission set OrderNotify, and read the Flow OrderNotify_Send: the e-mail "
            "that it sends is yours to word and to address.",
        ),
    )


# ---- fields ----

_TEXT: Final = {"type": "Text", "required": False}


def _fields(settings: SalesforceSettings) -> Mapping[str, Mapping[str, Any]]:
    """Return the custom fields that we need, with what Salesforce must know of each."""
    wanted: dict[str, Mapping[str, Any]] = {
        settings.external_id_field: {
            **_TEXT,
            "label": "Order number of the shop",
            "length": 255,
            "externalId": True,
            "unique": True,
            "caseSensitive": True,
        },
        settings.status_field: {**_TEXT, "label": "Notice status", "length": 40},
        settings.text_field: {
            "label": "Notice text",
            "type": "LongTextArea",
            "length": 32_768,
            "visibleLines": 6,
        },
        settings.reference_field: {**_TEXT, "label": "Notice reference", "length": 64},
    }
    return {name: metadata for name, metadata in wanted.items() if name.endswith(_CUSTOM)}


def _field(context: Context, name: str, metadata: Mapping[str, Any]) -> Step:
    developer_name = name.removesuffix(_CUSTOM)
    # Put together from the setting, whose pattern leaves letters, digits and underscores only.
    whose = f"TableEnumOrId = 'Order' AND DeveloperName = '{developer_name}'"
    question = f"SELECT Id FROM CustomField WHERE {whose}"  # noqa: S608 - see above
    made = {"FullName": f"Order.{name}", "Metadata": metadata}
    return Step(
        title=f"Field {name} of Order",
        find=call(context, "GET", f"/tooling/query?q={quote(question, safe='')}"),
        exists=_is_found,
        make=call(context, "POST", "/tooling/sobjects/CustomField", json_body(made)),
    )


def _is_found(answer: Answer) -> bool:
    body = answer.json()
    return isinstance(body, dict) and isinstance(body.get("totalSize"), int) and body["totalSize"] > 0


# ---- files ----


def package(context: Context) -> Mapping[str, str]:
    """Return the files of the deployment by their path; without an address of ours nothing tells us anything."""
    settings: SalesforceSettings = context.settings
    files = {
        "package.xml": _manifest(settings, tells=bool(context.webhook_url)),
        f"flows/{SEND}.flow": _send_flow(settings),
        f"permissionsets/{PERMISSIONS}.permissionset": _permissions(settings),
    }
    if context.webhook_url:
        files[f"flows/{TELL}.flow"] = _tell_flow()
        files["workflows/Order.workflow"] = _workflow(settings, context.webhook_url)
    return files


def _manifest(settings: SalesforceSettings, *, tells: bool) -> str:
    members = {"Flow": (SEND, TELL) if tells else (SEND,), "PermissionSet": (PERMISSIONS,)}
    if tells:
        members["WorkflowOutboundMessage"] = (f"Order.{STATUS}",)
    types = "".join(
        "    <types>\n"
        + "".join(f"        <members>{name}</members>\n" for name in names)
        + f"        <name>{kind}</name>\n    </types>\n"
        for kind, names in members.items()
    )
    version = f"    <version>{settings.api_version}</version>\n"
    return f"{_DECLARATION}<Package {_METADATA}>\n{types}{version}</Package>\n"


def _flow(*, label: str, action: str, filters: str, trigger: str) -> str:
    """Return a Flow that runs after an order was saved; its one action is ``Act``."""
    return f"""{_DECLARATION}<Flow {_METADATA}>
    <actionCalls>
        <name>Act</name>
        <label>{label}</label>
        <locationX>176</locationX>
        <locationY>323</locationY>
{action}    </actionCalls>
    <apiVersion>{_FLOW_VERSION}</apiVersion>
    <environments>Default</environments>
    <interviewLabel>{label} {{!$Flow.CurrentDateTime}}</interviewLabel>
    <label>{label}</label>
    <processMetadataValues>
        <name>BuilderType</name>
        <value>
            <stringValue>LightningFlowBuilder</stringValue>
        </value>
    </processMetadataValues>
    <processType>AutoLaunchedFlow</processType>
    <start>
        <locationX>50</locationX>
        <locationY>0</locationY>
        <connector>
            <targetReference>Act</targetReference>
        </connector>
{filters}        <object>Order</object>
        <recordTriggerType>{trigger}</recordTriggerType>
        <triggerType>RecordAfterSave</triggerType>
    </start>
    <status>Active</status>
</Flow>
"""


def _action(kind: str, name: str, inputs: Mapping[str, str]) -> str:
    lines = [
        f"        <actionName>{name}</actionName>\n",
        f"        <actionType>{kind}</actionType>\n",
        "        <flowTransactionModel>CurrentTransaction</flowTransactionModel>\n",
    ]
    for parameter, value in inputs.items():
        element = "elementReference" if value.startswith("$Record.") else "stringValue"
        lines.append(
            f"        <inputParameters>\n            <name>{parameter}</name>\n            <value>\n"
            f"                <{element}>{html.escape(value, quote=False)}</{element}>\n"
            "            </value>\n        </inputParameters>\n"
        )
    return "".join(lines)


def _send_flow(settings: SalesforceSettings) -> str:
    # The subject says nothing of the order: the text alone was cut to what the channel may carry.
    inputs = {
        "emailAddresses": f"$Record.{settings.recipient_field}",
        "emailSubject": "News of your order",
        "emailBody": f"$Record.{settings.text_field}",
    }
    filters = f"""        <filterLogic>and</filterLogic>
        <filters>
            <field>{settings.reference_field}</field>
            <operator>IsChanged</operator>
            <value>
                <booleanValue>true</booleanValue>
            </value>
        </filters>
"""
    action = _action("emailSimple", "emailSimple", inputs)
    return _flow(label="ordernotify: send the notice", action=action, filters=filters, trigger="Update")


def _tell_flow() -> str:
    action = _action("outboundMessage", f"Order.{STATUS}", {"SObjectRowId": "$Record.Id"})
    formula = "OR(ISNEW(), ISCHANGED({!$Record.Status}))"
    return _flow(
        label="ordernotify: tell of a new status",
        action=action,
        filters=f"        <filterFormula>{formula}</filterFormula>\n",
        trigger="CreateAndUpdate",
    )


def _workflow(settings: SalesforceSettings, webhook_url: str) -> str:
    between = "&" if "?" in webhook_url else "?"
    url = html.escape(f"{webhook_url}{between}{SECRET}={SECRET_HERE}", quote=False)
    fields = "".join(f"        <fields>{name}</fields>\n" for name in wanted_fields(settings))
    user = html.escape(settings.username or USERNAME_HERE, quote=False)
    return f"""{_DECLARATION}<Workflow {_METADATA}>
    <outboundMessages>
        <fullName>{STATUS}</fullName>
        <apiVersion>{settings.api_version}</apiVersion>
        <description>Tells ordernotify of an order's new status.</description>
        <endpointUrl>{url}</endpointUrl>
{fields}        <includeSessionId>false</includeSessionId>
        <integrationUser>{user}</integrationUser>
        <name>{STATUS}</name>
        <protected>false</protected>
        <useDeadLetterQueue>false</useDeadLetterQueue>
    </outboundMessages>
</Workflow>
"""


def _permissions(settings: SalesforceSettings) -> str:
    fields = "".join(
        f"""    <fieldPermissions>
        <editable>{"false" if name == settings.external_id_field else "true"}</editable>
        <field>Order.{name}</field>
        <readable>true</readable>
    </fieldPermissions>
"""
        for name in sorted(_fields(settings))
    )
    label = "    <label>ordernotify</label>\n"
    return f"{_DECLARATION}<PermissionSet {_METADATA}>\n{fields}{label}</PermissionSet>\n"
