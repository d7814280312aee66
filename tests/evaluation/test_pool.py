"""Worker processes: order, one process, and workers that die."""

import math
import operator
import os
import time
from functools import partial

from medssl.evaluation.pool import map_processes


def test_results_keep_the_order_of_the_items():
    assert map_processes(math.sqrt, [9.0, 4.0, 1.0, 0.0], workers=2, on_death=lambda _: -1.0) == [3.0, 2.0, 1.0, 0.0]


def test_one_worker_works_in_this_process():
    assert map_processes(lambda _: os.getpid(), ["a"], workers=1, on_death=lambda _: 0) == [os.getpid()]


def test_a_dead_worker_costs_only_the_item_that_killed_it():
    # the sleeper is under way when its neighbour dies, so it is lost with the pool and must be tried again
    items = [partial(os._exit, 9), partial(time.sleep, 0.5), partial(abs, -3), partial(abs, -4)]
    assert map_processes(operator.call, items, workers=2, on_death=lambda _: "died") == ["died", None, 3, 4]


def test_no_items_give_no_results():
    assert map_processes(math.sqrt, [], workers=0, on_death=lambda _: 0.0) == []
