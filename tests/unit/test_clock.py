"""Ids and noise: drawn ahead, each given once, also in a forked process."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ordernotify.clock import first_id, new_id, noise


@pytest.mark.parametrize("size", [1, 8, 10, 32, 4095, 4096, 5000])
def test_noise_has_the_size_that_was_asked_for(size):
    assert len(noise(size)) == size


def test_no_noise_is_given_twice():
    drawn = [noise(16) for _ in range(5000)]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_process_is_not_given_what_its_parent_is_given():
    noise(1)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, noise(64))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 64) != noise(64)
    os.close(reader)
    os.close(writer)


def test_ids_are_of_version_7_unique_and_sorted_by_the_time_they_were_drawn_at():
    began = datetime.now(UTC) - timedelta(milliseconds=1)
    drawn = [new_id() for _ in range(2000)]
    assert len(set(drawn)) == len(drawn)
    assert all(isinstance(one, UUID) and UUID(str(one)).version == 7 for one in drawn)
    assert all(UUID(str(one)).variant == UUID(int=0x8 << 60).variant for one in drawn)
    assert [one.int >> 80 for one in drawn] == sorted(one.int >> 80 for one in drawn)
    assert first_id(began) < drawn[0]
    assert {drawn[0]: 1}[UUID(str(drawn[0]))] == 1
