"""Where a request's time goes: phases that add up, and the header that tells them."""

import re

from app.timing import Phase, Timings, current

# W3C, "Server Timing": a name that is a token, and a duration in milliseconds.
METRIC = re.compile(r"([a-z]+);dur=(\d+\.\d)")


class Clock:
    """Stands still between `tick`s."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("app.timing.time.perf_counter", lambda: self.now)


def test_phases_end_one_after_the_other(monkeypatch):
    clock = Clock(monkeypatch)
    timings = Timings()
    clock.now += 0.25
    timings.reached(Phase.ADMISSION)
    clock.now += 0.5
    timings.reached(Phase.UPLOAD)
    timings.reached(Phase.UPLOAD)  # once: a second call of `embed` in one request uploads nothing
    clock.now += 1
    timings.reached(Phase.UPLOAD)
    assert timings.seconds == {Phase.ADMISSION: 0.25, Phase.UPLOAD: 0.5}
    assert timings.elapsed() == 1.75


def test_time_in_a_phase_adds_up():
    timings = Timings()
    for seconds in (0.5, 0.25):
        timings.add(Phase.DECODE, seconds)
    assert timings.seconds == {Phase.DECODE: 0.75}
    timings.add_all({Phase.DECODE: 1.25, Phase.FORWARD: 3})
    assert timings.seconds == {Phase.DECODE: 2, Phase.FORWARD: 3}


def test_the_header_is_in_milliseconds_and_in_the_order_of_the_phases(monkeypatch):
    Clock(monkeypatch)
    timings = Timings()
    assert timings.header() == ""
    for phase, seconds in zip(Phase, (0, 0.00104, 0.0025, 1.5, 12, 99.99996), strict=True):
        timings.add(phase, seconds)
    assert timings.header() == (
        "admission;dur=0.0, upload;dur=1.0, queue;dur=2.5, decode;dur=1500.0, forward;dur=12000.0, total;dur=100000.0"
    )
    assert all(METRIC.fullmatch(metric) for metric in timings.header().split(", "))


def test_every_phase_is_observed_once():
    timings, observed = Timings(), []
    timings.add(Phase.QUEUE, 1)
    timings.add(Phase.QUEUE, 2)
    timings.add(Phase.FORWARD, 4)
    timings.observe(lambda *pair: observed.append(pair))
    assert observed == [("queue", 3), ("forward", 4)]
    assert [f"{phase}" for phase, _ in observed] == ["queue", "forward"]  # what Prometheus makes of it


def test_work_without_a_request_has_no_times():
    assert current.get() is None
