"""How SNS is set up and checked: permissions, reports of SMS, signed notifications from our topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from ordernotify.platforms._base import Answer, Call, Context, Finding, Probe, Step
from ordernotify.platforms._sns_api import SnsSettings, get, members, post, read_xml, text_of

_OK = 200


def _ask_account(context: Context) -> Call:
    return get(context, [("Action", "GetSMSSandboxAccountStatus")])


def _read_account(answer: Answer, context: Context) -> Sequence[Finding]:
    works = answer.status == _OK
    code = text_of(read_xml(answer), "Error", "Code") or f"HTTP {answer.status}"
    boxed = text_of(read_xml(answer), "GetSMSSandboxAccountStatusResult", "IsInSandbox") == "true"
    settings: SnsSettings = context.settings
    receives = bool(settings.notification_topics and settings.signing_certificate)
    return (
        Finding("credentials", works, "" if works else f"{code}: check access_key_id, secret_access_key, region"),
        Finding("SMS sandbox", not boxed, "ask AWS to move the account out of the SMS sandbox" if boxed else ""),
        Finding("receipts", receives, "" if receives else "set notification_topics and signing_certificate"),
    )


def provision(context: Context) -> Sequence[Step]:
    """Return how permissions, reports of SMS and signed notifications come to be."""
    settings: SnsSettings = context.settings
    steps = [
        Step(title="Permissions", instruction=f"Give the IAM user or role this policy:\n{_POLICY}"),
        Step(title="Reports of SMS deliveries", instruction=_REPORTS),
        Step(
            title="Signing certificate",
            instruction="Put into signing_certificate the PEM file that SigningCertURL of a notification names. "
            "Download it over HTTPS and only from sns.<region>.amazonaws.com.",
        ),
    ]
    for topic in settings.notification_topics:
        steps += _topic_steps(topic, context)
    return steps


def _topic_steps(topic: str, context: Context) -> Sequence[Step]:
    url = context.webhook_url

    def is_subscribed(answer: Answer) -> bool:
        entries = members(read_xml(answer), "ListSubscriptionsByTopicResult", "Subscriptions")
        ours = (entry for entry in entries if text_of(entry, "Endpoint") == url)
        return any(text_of(entry, "SubscriptionArn").startswith("arn:") for entry in ours)

    def is_version_2(answer: Answer) -> bool:
        root = read_xml(answer)
        entries = [] if root is None else root.findall(".//{*}Attributes/{*}entry")
        return any(text_of(one, "key") == _VERSION and text_of(one, "value") == "2" for one in entries)

    named = ("TopicArn", topic)
    version = [("AttributeName", _VERSION), ("AttributeValue", "2")]
    protocol = url.partition(":")[0]
    return (
        Step(
            title=f"Signatures with SHA-256 on {topic}",
            find=get(context, [("Action", "GetTopicAttributes"), named]),
            exists=is_version_2,
            make=post(context, [("Action", "SetTopicAttributes"), named, *version]),
        ),
        Step(
            title=f"Subscription to {topic}",
            find=get(context, [("Action", "ListSubscriptionsByTopic"), named]),
            exists=is_subscribed,
            make=post(context, [("Action", "Subscribe"), named, ("Protocol", protocol), ("Endpoint", url)]),
        ),
    )


_VERSION = "SignatureVersion"
_ACTIONS = (
    "Publish CheckIfPhoneNumberIsOptedOut GetSMSSandboxAccountStatus Subscribe ListSubscriptionsByTopic "
    "GetTopicAttributes SetTopicAttributes"
)
_STATEMENT = {"Effect": "Allow", "Action": [f"sns:{action}" for action in _ACTIONS.split()], "Resource": "*"}
_POLICY = orjson.dumps({"Version": "2012-10-17", "Statement": [_STATEMENT]}, option=orjson.OPT_INDENT_2).decode()

# SNS reports SMS to CloudWatch Logs only; this carries each line of that log to a topic of ours.
_REPORTS = """In the SNS console under Text messaging turn on delivery status logging (100 % of successes). Make a
Lambda function (Python) with the text below, its variable TOPIC_ARN set to the topic of notification_topics, and
a CloudWatch Logs subscription filter for both DirectPublishToPhoneNumber log groups. To hear STOP, let the number
of origination_number send two-way SMS to the same topic.

import base64, gzip, json, os
import boto3

sns = boto3.client("sns")

def lambda_handler(event, context):
    packed = base64.b64decode(event["awslogs"]["data"])
    for line in json.loads(gzip.decompress(packed))["logEvents"]:
        sns.publish(TopicArn=os.environ["TOPIC_ARN"], Message=line["message"])
"""

PROBE: Final = Probe(build=_ask_account, read=_read_account)
