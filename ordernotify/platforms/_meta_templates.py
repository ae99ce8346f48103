"""The templates that Meta keeps for us: which values each status carries, in which order, in which words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ordernotify.core.delivery import Message
from ordernotify.core.events import OrderStatus
from ordernotify.platforms._base import Answer, Step
from ordernotify.platforms._chat_words import cut, squeezed
from ordernotify.platforms._meta import MetaSettings, graph_call, listed

_S = OrderStatus
_ALWAYS = ("order_no", "status_word")

# The order of the parameters {{1}}, {{2}}, ... of each status: part of the agreement with every template that
# was ever approved, so a row is never changed; another prefix makes room for other templates.
PARAMETERS: Final[Mapping[OrderStatus, Sequence[str]]] = {
    _S.RECEIVED: (*_ALWAYS, "promised_date"),
    _S.PROCESSING: (*_ALWAYS, "promised_date", "detail"),
    _S.SHIPPED: (*_ALWAYS, "carrier", "tracking_no", "promised_date", "detail"),
    _S.OUT_FOR_DELIVERY: (*_ALWAYS, "carrier", "tracking_no", "detail"),
    _S.DELIVERED: (*_ALWAYS, "detail"),
    _S.DELAYED: (*_ALWAYS, "promised_date", "detail"),
    _S.BACKORDERED: (*_ALWAYS, "promised_date", "detail"),
    _S.REGULATORY_HOLD: _ALWAYS,
    _S.CANCELLED: (*_ALWAYS, "detail"),
    _S.RETURNED: (*_ALWAYS, "detail"),
}

# Meta refuses an empty parameter, and a template has as many as it has.
ABSENT: Final = "-"
# Meta holds 1024 characters of a whole body; a notice is one parameter, order details are up to six.
_VALUE, _NOTICE = 120, 800


@dataclass(frozen=True, slots=True)
class _Words:
    lead: str
    labels: Mapping[str, str]
    tail: str
    notice: str


# A body may neither begin nor end with a parameter.
WORDS: Final[Mapping[str, _Words]] = {
    "en": _Words(
        "Update on your order {{1}}: {{2}}.",
        {"carrier": "Carrier", "tracking_no": "Tracking", "promised_date": "Expected", "detail": "Note"},
        "The details are in the portal.",
        "A message from your supplier:\n{{1}}\nThis message was sent automatically.",
    ),
    "es": _Words(
        "Novedades de su pedido {{1}}: {{2}}.",
        {"carrier": "Transportista", "tracking_no": "Seguimiento", "promised_date": "Previsto", "detail": "Nota"},
        "Los detalles están en el portal.",
        "Un mensaje de su proveedor:\n{{1}}\nEste mensaje se envió automáticamente.",
    ),
}
_EXAMPLES = {
    "order_no": "ON-48213",
    "status_word": "Shipped",
    "carrier": "UPS",
    "tracking_no": "1Z999AA10123456784",
    "promised_date": "25 Nov 2026",
    "detail": "This concerns part of the order",
}
_NOTICE_EXAMPLE = "An update is available in the secure portal. Reference N-7F3K-Q2WM-81TX."


def template_of(message: Message, *, prefix: str, notice: str) -> str | None:
    """Return the name of a message's template, None for a status that no template tells."""
    if message.notice_only:
        return notice
    return f"{prefix}{message.status.value}" if message.status in PARAMETERS else None


def parameters_of(message: Message) -> list[dict[str, str]]:
    """Return the body parameters in their order: each on one line and never empty, as Meta asks.

    WhatsApp reads ``*`` and ``_`` in a parameter as it does in the template, and knows no escape for them.
    A notice has one parameter, its text, and nothing else.
    """
    if message.notice_only:
        values = [cut(squeezed(message.text), _NOTICE)]
    else:
        names = PARAMETERS[message.status]
        values = [cut(squeezed(message.variables.get(name, "")), _VALUE) for name in names]
    return [{"type": "text", "text": value or ABSENT} for value in values]


def body_of(status: OrderStatus | None, language: str) -> tuple[str, list[str]]:
    """Return the body of a status's template (None: the notice) and an example of each parameter."""
    words = WORDS[language]
    if status is None:
        return words.notice, [_NOTICE_EXAMPLE]
    names = PARAMETERS[status]
    facts = [
        f"{words.labels[name]}: {{{{{place}}}}}" for place, name in enumerate(names, start=1) if name in words.labels
    ]
    return "\n".join([words.lead, *facts, words.tail]), [_EXAMPLES[name] for name in names]


def template_steps(settings: MetaSettings, owner: str, *, prefix: str, notice: str) -> list[Step]:
    """Return a step for each template in each language; ``owner`` is the account or Page that keeps them."""
    steps: list[Step] = []
    for language, code in settings.languages.items():
        words = language.partition("-")[0]
        if words not in WORDS:
            order = "; ".join(f"{prefix}{status.value}: {', '.join(PARAMETERS[status])}" for status in PARAMETERS)
            instruction = f"In language {code} write these templates, with body parameters in this order. {order}."
            steps.append(Step(title=f"Templates in {code}", instruction=instruction))
            continue
        for status in (*PARAMETERS, None):
            name = notice if status is None else f"{prefix}{status.value}"
            steps.append(_step(settings, owner, name=name, code=code, body=body_of(status, words)))
    return steps


def _step(settings: MetaSettings, owner: str, *, name: str, code: str, body: tuple[str, list[str]]) -> Step:
    text, examples = body
    value: dict[str, Any] = {
        "name": name,
        "language": code,
        "category": "UTILITY",
        "parameter_format": "POSITIONAL",
        "components": [{"type": "BODY", "text": text, "example": {"body_text": [examples]}}],
    }

    def exists(answer: Answer) -> bool:
        return any(entry.get("name") == name and entry.get("language") == code for entry in listed(answer))

    return Step(
        title=f"Template {name} in {code}",
        find=graph_call(settings, "GET", f"{owner}/message_templates", name=name, limit="100"),
        exists=exists,
        make=graph_call(settings, "POST", f"{owner}/message_templates", value),
    )
