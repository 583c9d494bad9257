"""Slots: never too many, none lost, none doubled, whoever comes and leaves and in whatever order."""

import asyncio
import os
import threading
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.slots import Slots


class GivenUpError(Exception):
    """What `fail_waiting` is called with here."""


async def turns(count=10):
    """Lets whatever is due on the loop happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def free_slots(slots, most):
    """How many can be had without waiting; all are given back."""
    had = 0
    while had <= most:
        task = asyncio.create_task(slots.acquire(urgent=True))
        await turns(3)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            break
        had += 1
    jobs = [slots.submit(int) for _ in range(had)]
    await asyncio.gather(*map(asyncio.wrap_future, jobs))
    return had


class Crowd:
    """Callers that acquire a slot, have something run in it that lasts until it is told to end, and leave."""

    def __init__(self, threads):
        self.slots, self.most = Slots(threads), threads + 1
        self.callers: list[asyncio.Task] = []
        self.jobs: list[tuple[Future, threading.Event]] = []

    async def call(self, urgent):
        await self.slots.acquire(urgent=urgent)
        gate = threading.Event()
        self.jobs.append((self.slots.submit(lambda: gate.wait(20)), gate))

    async def do(self, act, number):
        waiting = [task for task in self.callers if not task.done()]
        under_way = [(job, gate) for job, gate in self.jobs if not job.done()]
        if act in {"urgent", "patient"}:
            self.callers.append(asyncio.create_task(self.call(act == "urgent")))
        elif act == "leave" and waiting:
            waiting[number % len(waiting)].cancel()
        elif act == "end" and under_way:
            under_way[number % len(under_way)][1].set()
        elif act == "drop" and under_way:  # has an effect on what no thread has taken up
            under_way[number % len(under_way)][0].cancel()
        elif act == "wait" and (ending := [job for job, gate in under_way if gate.is_set() and job.running()]):
            await asyncio.gather(*map(asyncio.wrap_future, ending))
        elif act == "fail":
            self.slots.fail_waiting(GivenUpError)
        elif act == "turn":
            await turns(1 + number % 3)
        assert sum(not job.done() for job, _ in self.jobs) <= self.most

    async def end(self):
        """Everything that waits gets its turn; then all slots must be there again."""
        while any(not task.done() for task in self.callers):
            for _, gate in self.jobs:
                gate.set()
            assert sum(not job.done() for job, _ in self.jobs) <= self.most
            await asyncio.sleep(0)
        for task in self.callers:
            assert task.cancelled() or isinstance(task.exception(), GivenUpError | None)
        for job, gate in self.jobs:
            gate.set()
            if not job.cancelled():
                assert await asyncio.wrap_future(job)
        await turns()
        assert await free_slots(self.slots, self.most) == self.most
        self.slots.close()


ACTS = st.tuples(
    st.sampled_from(["urgent", "patient", "leave", "end", "drop", "wait", "fail", "turn", "turn"]),
    st.integers(0, 7),
)


@settings(max_examples=200, deadline=None)
@given(threads=st.integers(1, 3), acts=st.lists(ACTS, max_size=40))
def test_no_slot_is_lost_or_doubled(threads, acts):
    async def scenario():
        crowd = Crowd(threads)
        for act, number in acts:
            await crowd.do(act, number)
        await crowd.end()

    asyncio.run(scenario())


@pytest.mark.parametrize("leaves", ["before", "after", "in the next round"])
@pytest.mark.parametrize("give", ["slot", "error"])
def test_what_comes_while_leaving_goes_to_the_next(give, leaves):
    """The slot, or the error, and the cancellation in one round of the loop or nearly so, in either order."""

    async def scenario(leaves):
        slots, jobs = Slots(1), []
        for _ in range(2):
            await slots.acquire(urgent=True)
        leaving, staying = (asyncio.create_task(slots.acquire(urgent=True)) for _ in range(2))
        await turns()
        if leaves == "before":
            leaving.cancel()
        jobs.append(slots.submit(int))
        if give == "error":
            slots.fail_waiting(GivenUpError)
        else:
            jobs[0].result(20)  # the release is now on the loop, behind the cancellation
        if leaves == "in the next round":
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving, staying], timeout=20)
        assert leaving.cancelled() or isinstance(leaving.exception(), GivenUpError | None)
        served = [task for task in (leaving, staying) if not task.cancelled() and task.exception() is None]
        jobs += [slots.submit(int) for _ in served]
        jobs.append(slots.submit(int))  # the second of those that had a slot from the beginning
        assert (give == "slot") == (staying.exception() is None)
        await asyncio.wait_for(asyncio.gather(*map(asyncio.wrap_future, jobs)), 20)
        await turns()
        return await free_slots(slots, 2)

    assert asyncio.run(scenario(leaves)) == 2


def test_urgent_work_goes_first_and_each_kind_in_its_order():
    async def scenario():
        slots, served = Slots(1), []

        async def call(name, urgent):
            await slots.acquire(urgent=urgent)
            served.append(name)
            return slots.submit(int)

        gate = threading.Event()
        for _ in range(2):
            await slots.acquire(urgent=True)
            slots.submit(lambda: gate.wait(20))
        names = ["patient 1", "urgent 1", "patient 2", "urgent 2", "patient 3"]
        callers = [asyncio.create_task(call(name, name.startswith("urgent"))) for name in names]
        await turns()
        gate.set()
        await asyncio.gather(*callers)
        slots.close()
        return served

    assert asyncio.run(scenario()) == ["urgent 1", "urgent 2", "patient 1", "patient 2", "patient 3"]


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="there is no niceness here")
def test_threads_stand_back_for_the_one_that_answers():
    async def scenario():
        slots = Slots(1)
        await slots.acquire(urgent=True)
        own = lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())  # noqa: E731
        there = await asyncio.wrap_future(slots.submit(own))
        slots.close()
        return own(), there

    here, there = asyncio.run(scenario())
    assert there == min(19, here + 5)


def test_no_niceness_where_the_system_has_none(monkeypatch):
    monkeypatch.delattr("os.setpriority")

    async def scenario():
        slots = Slots(1)
        await slots.acquire(urgent=True)
        return await asyncio.wrap_future(slots.submit(lambda: 7))

    assert asyncio.run(scenario()) == 7


def test_closed_slots_refuse_everybody_who_waits():
    async def scenario():
        slots = Slots(1)
        gate = threading.Event()
        for _ in range(2):
            await slots.acquire(urgent=True)
            slots.submit(lambda: gate.wait(20))

        async def call():
            await slots.acquire(urgent=False)
            slots.submit(int)

        callers = [asyncio.create_task(call()) for _ in range(3)]
        await turns()
        slots.close()
        gate.set()
        return await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 20)

    assert [type(error) for error in asyncio.run(scenario())] == [RuntimeError] * 3


def test_a_thread_that_ends_after_its_loop_is_no_trouble():
    gate, ended = threading.Event(), threading.Event()

    async def scenario():
        slots = Slots(1)
        await slots.acquire(urgent=True)
        job = slots.submit(lambda: gate.wait(20))
        job.add_done_callback(lambda _: ended.set())
        slots.close()

    asyncio.run(scenario())
    gate.set()
    assert ended.wait(20)
