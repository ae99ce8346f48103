"""Channels: the kinds of medium a message can take, with their limits as a table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Channel(StrEnum):
    """Kind of medium; a platform carries one or more of them."""

    SMS = "sms"
    EMAIL = "email"
    CHAT = "chat"
    RECORD = "record"  # a field, note or ticket in the client's or our own business system


class Level(IntEnum):
    """How much a channel may be trusted with, lowest first (NIST 03.01.20: external systems)."""

    CX = -1  # forbidden
    C0 = 0  # public or consumer service
    C1 = 1  # company-managed commercial tenant
    C2 = 2  # inside an environment assessed for FCI
    C3 = 3  # enclave or FedRAMP Moderate equivalent with the contract's terms
    C4 = 4  # C3 and end-to-end encrypted, administered by US persons


@dataclass(frozen=True, slots=True)
class Limits:
    """What a channel can hold, in characters; 0 means that the part does not exist."""

    subject: int
    text: int


LIMITS: dict[Channel, Limits] = {
    Channel.SMS: Limits(subject=0, text=1600),
    Channel.EMAIL: Limits(subject=200, text=100_000),
    Channel.CHAT: Limits(subject=150, text=2_000),
    Channel.RECORD: Limits(subject=200, text=4_000),
}
