"""A simulated vendor's memory: bounded in text, unbounded in what proves loss and repetition."""

from __future__ import annotations

from ordernotify.sandbox._base import Reply, Taken, Vendor
from ordernotify.sandbox._desk import KEPT_ARRIVALS, KEPT_CHARACTERS, Desk

VENDOR = Vendor(name="pigeon", routes={}, settings={}, refuse=lambda fault: Reply(500))


def filled(count: int, text: str) -> Desk:
    desk = Desk.open(VENDOR, root="", webhooks={})
    for number in range(count):
        desk.take(Taken("loft", f"delivery-{number}", text), sequence=number, received_at_ms=0)
    return desk


def test_the_oldest_texts_are_dropped_when_there_are_too_many_but_still_counted():
    desk = filled(KEPT_ARRIVALS + 10, "short")
    assert len(desk.arrivals) == KEPT_ARRIVALS
    assert desk.arrivals[0].reference == "delivery-10"
    desk.take(Taken("loft", "delivery-0", "again"), sequence=0, received_at_ms=0)
    totals = desk.totals()
    assert (totals["taken"], totals["distinct"]) == (KEPT_ARRIVALS + 11, KEPT_ARRIVALS + 10)
    assert totals["duplicates"] == 1


def test_the_oldest_texts_are_dropped_when_they_are_too_long_together():
    desk = filled(20, "x" * 1_000_000)
    assert len(desk.arrivals) == KEPT_CHARACTERS // 1_000_000
    assert desk.totals()["distinct"] == 20
