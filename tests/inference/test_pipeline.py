"""Stages overlap; errors, hangs and slow items stay with their item; nothing waits for ever."""

import threading
import time

import pytest

from medssl.inference.pipeline import Finished, Stage, run_stages

pytestmark = pytest.mark.timeout(30)  # a watchdog: a line that hangs is a defect


def _run(items, *stages, queue_bytes=100, stall_seconds=20.0):
    return list(run_stages(items, stages, size_of=lambda _: 1, queue_bytes=queue_bytes, stall_seconds=stall_seconds))


def _same(value):
    return value


def test_every_item_comes_out_once_with_its_value():
    outcomes = _run(range(50), Stage(name="a", work=lambda x: x + 1, workers=2), Stage(name="b", work=lambda x: x * 2))
    assert sorted(outcome.value for outcome in outcomes) == [2 * (x + 1) for x in range(50)]
    assert all(set(outcome.seconds) == {"a", "b"} for outcome in outcomes)


def test_no_items_end_at_once():
    assert _run([], Stage(name="a", work=_same)) == []


@pytest.mark.parametrize("bad_stage", ["read", "network", "restore", "write"])
@pytest.mark.parametrize("error", [RuntimeError("planted"), SystemExit(1), MemoryError()])
def test_an_error_in_any_stage_belongs_to_its_item(bad_stage, error):
    def work(name):
        def run(value):
            if name == bad_stage and value == 3:
                raise error
            return value

        return Stage(name=name, work=run)

    outcomes = _run(range(8), *[work(name) for name in ("read", "network", "restore", "write")])
    failed = [outcome for outcome in outcomes if outcome.error]
    assert [(outcome.item, outcome.stage, outcome.error) for outcome in failed] == [(3, bad_stage, error)]
    assert len(outcomes) == 8


def test_a_hanging_item_is_given_up_and_the_rest_go_on():
    release = threading.Event()

    def hang(value):
        if value == 1:
            release.wait(20)
        return value

    begin = time.monotonic()
    outcomes = _run(range(6), Stage(name="a", work=hang), Stage(name="b", work=_same), stall_seconds=0.5)
    release.set()
    assert time.monotonic() - begin < 5
    assert [(o.item, o.error.code) for o in outcomes if o.error] == [(1, "stalled")]
    assert sorted(o.value for o in outcomes if not o.error) == [0, 2, 3, 4, 5]


def test_a_slow_item_does_not_hold_up_the_others():
    def slow(value):
        time.sleep(1.0 if value == 0 else 0.0)
        return value

    order = [outcome.item for outcome in _run(range(10), Stage(name="read", work=slow, workers=2))]
    assert order[-1] == 0


def test_stages_overlap():
    def nap(value):
        time.sleep(0.05)
        return value

    begin = time.monotonic()
    _run(range(10), *[Stage(name=name, work=nap) for name in "abc"])
    assert time.monotonic() - begin < 1.2  # one after another takes 1.5 s


def test_waiting_bytes_are_bounded():
    inside, most, lock = [0], [0], threading.Lock()

    def produce(value):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        return value

    def consume(value):
        time.sleep(0.02)
        with lock:
            inside[0] -= 1
        return value

    _run(range(20), Stage(name="a", work=produce), Stage(name="b", work=consume), queue_bytes=3)
    assert most[0] <= 5  # three wait, one is produced, one is consumed


def test_a_finished_item_skips_the_later_stages():
    outcomes = _run([1], Stage(name="a", work=lambda _: Finished("early")), Stage(name="b", work=lambda _: 1 / 0))
    assert [(o.value, o.stage, o.error) for o in outcomes] == [("early", "a", None)]


def test_leaving_early_stops_the_threads():
    stages = [Stage(name="left-early", work=_same)]
    for _ in run_stages(range(1000), stages, size_of=lambda _: 1, queue_bytes=10, stall_seconds=9):
        break
    time.sleep(0.5)
    assert not [thread for thread in threading.enumerate() if thread.name == "left-early"]
