from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.app.capture import Backoff
from edgesdk.app.queues import Closed, SampleQueue


@given(policy=st.sampled_from(["latest", "drop_oldest"]), places=st.integers(1, 5), script=st.lists(st.booleans()))
def test_queue__live_policies__keep_the_newest_in_order_and_count_the_rest(
    policy: Any, places: int, script: list[bool]
) -> None:
    queue: SampleQueue[int] = SampleQueue(policy, places)
    bound = 1 if policy == "latest" else places
    put, got = 0, []
    for wants_put in script:
        if wants_put:
            assert queue.put(put)
            put += 1
        elif len(queue):
            got.append(queue.get())
        assert len(queue) <= bound
    queue.close()
    while len(queue):
        got.append(queue.get())
    assert got == sorted(set(got))
    assert put == queue.accepted == len(got) + queue.dropped
    assert not put or got[-1] == put - 1
    with pytest.raises(Closed):
        queue.get()


def test_queue__block__waits_and_loses_nothing() -> None:
    queue: SampleQueue[int] = SampleQueue("block", 2)

    def produce() -> None:
        for n in range(100):
            queue.put(n)
        queue.close()

    producer = threading.Thread(target=produce)
    producer.start()
    assert [queue.get() for _ in range(100)] == list(range(100))
    producer.join()
    with pytest.raises(Closed):
        queue.get()
    assert queue.dropped == 0


def test_queue__closed_while_a_producer_waits__lets_it_go() -> None:
    queue: SampleQueue[int] = SampleQueue("block", 1)
    assert queue.put(0)
    answers: list[bool] = []
    producer = threading.Thread(target=lambda: answers.append(queue.put(1)))
    producer.start()
    queue.close()
    producer.join()
    assert answers == [False]
    assert queue.get() == 0


def test_queue__abort__counts_what_it_throws_away() -> None:
    queue: SampleQueue[int] = SampleQueue("block", 4)
    for n in range(3):
        queue.put(n)
    queue.abort()
    assert queue.dropped == 3
    with pytest.raises(Closed):
        queue.get()


@given(attempt=st.integers(1, 10_000), base=st.floats(0.01, 10), cap=st.floats(0.2, 100))
def test_backoff__never_spins_and_never_exceeds_its_cap(attempt: int, base: float, cap: float) -> None:
    delay_s = Backoff(base_s=base, cap_s=cap, floor_s=0.1).delay_s(attempt)
    assert 0.1 <= delay_s <= max(cap, 0.1)
