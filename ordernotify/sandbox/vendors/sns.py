"""Amazon SNS simulated: Publish and PublishBatch, opt-outs, subscriptions with signed notifications.

Reports of SMS come, as a log forwarded to the first topic of ours, to the webhook named ``events``. Numbers tell by
their last digits what becomes of an SMS: ``0100`` has opted out, ``0101`` cannot be reached now, ``0102`` is on a
blocked list, ``0199`` answers STOP. In a batch, an entry whose message says ``poison`` fails by the sender's fault,
one that says ``hiccup`` by SNS's own. Topics whose name begins with ``gone`` do not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

import orjson

from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor
from ordernotify.sandbox.vendors._sns_answers import error, ok, tag
from ordernotify.sandbox.vendors._sns_signing import (
    ACCESS_KEY,
    HOST,
    REGION,
    SECRET_KEY,
    callback,
    certificate,
    fault_of_login,
)

TOPIC: Final = "arn:aws:sns:us-east-1:123456789012:order-receipts"
OPTED_OUT, STOPS = "0100", "0199"
FAILURES: Final[Mapping[str, str]] = {
    OPTED_OUT: "Phone number is opted out",
    "0101": "Phone is currently unreachable/unavailable",
    "0102": "Destination is on a blocked list",
}

FAULTS: Final[Mapping[Fault, str]] = {
    Fault.RATE: "Throttling",
    Fault.RATE_BARE: "Throttling",
    Fault.SERVER_ERROR: "InternalError",
    Fault.PERMANENT: "InvalidParameter",
    Fault.AUTH: "SignatureDoesNotMatch",
    Fault.OPT_OUT: "OptedOut",  # as an answer only here: SNS takes the message and says nothing
}

_ARN = re.compile(r"arn:aws:sns:us-east-1:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?")
_PHONE = re.compile(r"\+[0-9]{7,15}")
_SUBJECT = re.compile(r"[^\x00-\x1f\x7f]{1,99}")
_SMS_CHARACTERS, _BYTES, _ENTRIES = 1600, 262_144, 10


def refuse(fault: Fault) -> Reply:
    """Answer a fault in AWS's format."""
    return error(FAULTS[fault])


def _root(request: Request, shelf: Shelf) -> Reply:
    asked = {**request.query, **request.form()}
    action = _ACTIONS.get(asked.get("Action", ""))
    if action is None:
        return error("InvalidAction")
    # To confirm a subscription takes its token only.
    code = None if action is _confirm else fault_of_login(request, shelf)
    return error(code) if code else action(asked, shelf)


Asked = Mapping[str, str]


# ---- publishing ----


def _publish(asked: Asked, shelf: Shelf) -> Reply:
    topic, phone = asked.get("TopicArn", ""), asked.get("PhoneNumber", "")
    if bool(topic) == bool(phone):
        return error("InvalidParameter")
    if topic:
        if code := _fault_of_topic(topic) or _fault_of_entry(topic, asked, ""):
            return error(code)
        taken = _taken(topic, asked, "")
        return ok("Publish", tag("MessageId", taken.provider_ref), taken=(taken,))
    text = asked.get("Message", "")
    if not _PHONE.fullmatch(phone) or not 0 < len(text) <= _SMS_CHARACTERS:
        return error("InvalidParameter")
    message_id = str(uuid4())
    callbacks = _reports(shelf.webhooks.get("events", ""), phone, message_id)
    # An SMS carries no reference of the sender's: the id of the answer is all there is.
    taken = Taken(phone, "", text, message_id)
    return ok("Publish", tag("MessageId", message_id), taken=(taken,), callbacks=callbacks)


def _publish_batch(asked: Asked, _shelf: Shelf) -> Reply:
    topic = asked.get("TopicArn", "")
    if code := _fault_of_topic(topic):
        return error(code)
    prefixes = _entries(asked)
    ids = [asked.get(f"{prefix}Id", "") for prefix in prefixes]
    size = sum(len(value.encode()) for name, value in asked.items() if not name.endswith(".Id"))
    checks = (
        ("EmptyBatchRequest", not prefixes),
        ("TooManyEntriesInBatchRequest", len(prefixes) > _ENTRIES),
        ("BatchEntryIdsNotDistinct", len(set(ids)) != len(ids)),
        ("BatchRequestTooLong", size > _BYTES),
    )
    if code := next((code for code, wrong in checks if wrong), ""):
        return error(code)
    successful, failed, taken = "", "", []
    for prefix, name in zip(prefixes, ids, strict=True):
        if code := _fault_of_entry(topic, asked, prefix):
            fault = tag("SenderFault", "true" if code == "InvalidParameter" else "false")
            failed += f"<member>{tag('Id', name)}{tag('Code', code)}{fault}</member>"
            continue
        one = _taken(topic, asked, prefix)
        taken.append(one)
        successful += f"<member>{tag('Id', name)}{tag('MessageId', one.provider_ref)}</member>"
    inner = f"<Successful>{successful}</Successful><Failed>{failed}</Failed>"
    return ok("PublishBatch", inner, taken=tuple(taken))


def _entries(asked: Asked) -> list[str]:
    found = {match[1] for name in asked if (match := re.match(r"PublishBatchRequestEntries\.member\.([0-9]+)\.", name))}
    return [f"PublishBatchRequestEntries.member.{place}." for place in sorted(found, key=int)]


def _fault_of_topic(topic: str) -> str | None:
    if not _ARN.fullmatch(topic):
        return "InvalidParameter"
    return "NotFound" if topic.rpartition(":")[2].startswith("gone") else None


def _fault_of_entry(topic: str, asked: Asked, prefix: str) -> str | None:
    text, subject = asked.get(f"{prefix}Message", ""), asked.get(f"{prefix}Subject")
    queued = topic.endswith(".fifo")
    ordered = bool(asked.get(f"{prefix}MessageGroupId") and asked.get(f"{prefix}MessageDeduplicationId"))
    wrong = (
        not text
        or len(text.encode()) > _BYTES
        or (subject is not None and not _SUBJECT.fullmatch(subject))
        or (queued and not ordered)
        or "poison" in text
    )
    if wrong:
        return "InvalidParameter"
    return "InternalError" if "hiccup" in text else None


def _taken(topic: str, asked: Asked, prefix: str) -> Taken:
    marks = {
        asked[name]: asked.get(f"{name.removesuffix('Name')}Value.StringValue", "")
        for name in asked
        if re.fullmatch(re.escape(prefix) + r"MessageAttributes\.entry\.[0-9]+\.Name", name)
    }
    reference = marks.get("reference") or asked.get(f"{prefix}MessageDeduplicationId", "")
    words = (asked.get(f"{prefix}Subject", ""), asked[f"{prefix}Message"])
    return Taken(topic, reference, "\n".join(word for word in words if word), str(uuid4()))


def _reports(url: str, phone: str, message_id: str) -> tuple[Callback, ...]:
    if not url:
        return ()
    failure = next((words for ending, words in FAILURES.items() if phone.endswith(ending)), "")
    report = {
        "notification": {"messageId": message_id, "timestamp": "2026-11-24 10:00:00.000"},
        "delivery": {
            "destination": phone,
            "priceInUSD": 0.00645,
            "smsType": "Transactional",
            "numberOfMessageParts": 1,
            "providerResponse": failure or "Message has been accepted by phone",
            "dwellTimeMs": 599,
        },
        "status": "FAILURE" if failure else "SUCCESS",
    }
    messages = [report]
    if phone.endswith(STOPS):
        messages.append(
            {
                "originationNumber": phone,
                "destinationNumber": "+12025550111",
                "messageKeyword": "KEYWORD_123456789012",
                "messageBody": "Stop",
                "inboundMessageId": str(uuid4()),
                "previousPublishedMessageId": message_id,
            }
        )
    return tuple(
        callback(
            url,
            TOPIC,
            {"Type": "Notification", "Message": orjson.dumps(message).decode()},
            # Both versions occur: a topic signs with SHA-1 until it is told otherwise.
            version=str(place),
            after_s=0.05 * place,
        )
        for place, message in enumerate(messages, start=1)
    )


# ---- opt-outs, topics and subscriptions ----


def _is_opted_out(asked: Asked, _shelf: Shelf) -> Reply:
    phone = asked.get("phoneNumber", "")
    if not _PHONE.fullmatch(phone):
        return error("InvalidParameter")
    return ok("CheckIfPhoneNumberIsOptedOut", tag("isOptedOut", str(phone.endswith(OPTED_OUT)).lower()))


def _account(_asked: Asked, _shelf: Shelf) -> Reply:
    return ok("GetSMSSandboxAccountStatus", tag("IsInSandbox", "false"))


def _get_attributes(asked: Asked, shelf: Shelf) -> Reply:
    kept = {"TopicArn": asked.get("TopicArn", ""), **shelf.kind(f"attributes {asked.get('TopicArn')}")}
    entries = "".join(f"<entry>{tag('key', name)}{tag('value', kept[name])}</entry>" for name in kept)
    return ok("GetTopicAttributes", f"<Attributes>{entries}</Attributes>")


def _set_attributes(asked: Asked, shelf: Shelf) -> Reply:
    kept = shelf.kind(f"attributes {asked.get('TopicArn')}")
    kept[asked.get("AttributeName", "")] = asked.get("AttributeValue", "")
    return ok("SetTopicAttributes")


def _subscribe(asked: Asked, shelf: Shelf) -> Reply:
    topic, url = asked.get("TopicArn", ""), asked.get("Endpoint", "")
    if (code := _fault_of_topic(topic)) or not url.startswith(f"{asked.get('Protocol')}://"):
        return error(code or "InvalidParameter")
    token = uuid4().hex
    shelf.kind("pending")[token] = (topic, url)
    shelf.kind(f"subscriptions {topic}")[url] = "PendingConfirmation"
    fields = {
        "Type": "SubscriptionConfirmation",
        "Message": "You have chosen to subscribe to the topic. To confirm, visit the SubscribeURL.",
        "SubscribeURL": f"{HOST}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}",
        "Token": token,
    }
    arn = tag("SubscriptionArn", "pending confirmation")
    return ok("Subscribe", arn, callbacks=(callback(url, topic, fields, version="1"),))


def _confirm(asked: Asked, shelf: Shelf) -> Reply:
    topic, url = shelf.kind("pending").get(asked.get("Token", ""), ("", ""))
    if not topic or topic != asked.get("TopicArn"):
        return error("InvalidParameter")
    arn = f"{topic}:{uuid4()}"
    shelf.kind(f"subscriptions {topic}")[url] = arn
    shelf.webhooks["events"] = url
    return ok("ConfirmSubscription", tag("SubscriptionArn", arn))


def _list_subscriptions(asked: Asked, shelf: Shelf) -> Reply:
    kept = shelf.kind(f"subscriptions {asked.get('TopicArn')}")
    inner = "".join(
        f"<member>{tag('Endpoint', url)}{tag('SubscriptionArn', arn)}</member>" for url, arn in kept.items()
    )
    return ok("ListSubscriptionsByTopic", f"<Subscriptions>{inner}</Subscriptions>")


_ACTIONS: Final[Mapping[str, Callable[[Asked, Shelf], Reply]]] = {
    "Publish": _publish,
    "PublishBatch": _publish_batch,
    "CheckIfPhoneNumberIsOptedOut": _is_opted_out,
    "GetSMSSandboxAccountStatus": _account,
    "GetTopicAttributes": _get_attributes,
    "SetTopicAttributes": _set_attributes,
    "Subscribe": _subscribe,
    "ConfirmSubscription": _confirm,
    "ListSubscriptionsByTopic": _list_subscriptions,
}

VENDOR = Vendor(
    name="sns",
    routes={("POST", "/"): _root, ("GET", "/"): _root},
    settings={
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        "region": REGION,
        "notification_topics": TOPIC,
        "signing_certificate": certificate(),
    },
    refuse=refuse,
)
