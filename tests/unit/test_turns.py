"""Turns: long work lets others go on, and a line lets in no more than it has places for, in order."""

from __future__ import annotations

import asyncio

from ordernotify.turns import Line, in_turns


async def test_what_is_made_keeps_its_order_and_others_go_on_meanwhile():
    seen = []

    async def other():
        while True:
            seen.append(len(made))
            await asyncio.sleep(0)

    made = []

    def make(number):
        made.append(number)
        return number * 2

    task = asyncio.create_task(other())
    assert await in_turns(make, range(200)) == [number * 2 for number in range(200)]
    task.cancel()
    between = [count for count in seen if 0 < count < 200]
    assert len(between) >= 5
    assert max(b - a for a, b in zip([0, *between], [*between, 200], strict=True)) <= 32


async def test_nothing_to_make_is_an_empty_list():
    assert await in_turns(str, []) == []


async def test_a_line_lets_in_as_many_as_it_has_places_and_in_the_order_they_came():
    line, inside, most, order = Line(2), 0, 0, []

    async def work(number):
        nonlocal inside, most
        async with line:
            inside += 1
            most = max(most, inside)
            order.append(number)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(work(number) for number in range(7)))
    assert (most, order) == (2, list(range(7)))


async def test_a_line_has_moved_up_when_nobody_waits_though_somebody_is_at_work():
    line = Line(1)
    await asyncio.wait_for(line.moved_up(), 1)
    async with line:
        await asyncio.wait_for(line.moved_up(), 1)
        second = asyncio.create_task(line.__aenter__())
        await asyncio.sleep(0)
        moved = asyncio.create_task(line.moved_up())
        await asyncio.sleep(0.01)
        assert not moved.done()
    await second
    await asyncio.wait_for(moved, 1)


async def test_who_gives_up_waiting_holds_up_nobody():
    line = Line(1)
    async with line:
        waiting = asyncio.create_task(line.__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(line.moved_up(), 1)
    async with asyncio.timeout(1), line:
        pass
