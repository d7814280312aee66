"""What the tests of several processes run in each of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines.utils import IterationEvents
from training.small_run import small_run

from medssl.training import CaseSampler, MeanDiceOfCases, Optimization, SameBuffers, distribute, join_processes
from medssl.training.distributed import Agreement, process_count, process_rank

State = dict[str, np.ndarray]


def trained(folder: Path, batch_size: int, accumulation: int = 1) -> tuple[State, list[float]]:
    """Train two epochs without dropout; return the weights and the loss of every iteration."""
    if "RANK" in os.environ:
        join_processes(device="cpu")
    run = small_run(folder, epochs=2, batch_size=batch_size, accumulation=accumulation, plain=True)
    losses: list[float] = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
    )
    run.trainer.run()
    return _plain(run.network), losses


def stopped_and_resumed(folder: Path, iteration: int) -> dict[str, Any]:
    """Run undisturbed; then stop by a signal to the last process alone, and resume."""
    join_processes(device="cpu")
    undisturbed = small_run(folder / "undisturbed")
    undisturbed.trainer.run()

    def stop(current: int) -> None:
        if current == iteration and process_rank() == process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped, code = small_run(folder / "stopped", on_batch=stop), None
    try:
        stopped.trainer.run()
    except SystemExit as error:
        code = error.code
    saved = torch.load(folder / "stopped" / "last.pt", weights_only=True)
    resumed = small_run(folder / "stopped")
    resumed.trainer.run()
    return {
        "code": code,
        "stopped_at": stopped.trainer.state.iteration,
        "saved_at": saved["iteration"],
        "names": list(saved["parts"]["network"]),
        "random": [state["torch"].numpy() for state in saved["random"]],
        "files": sorted(path.name for path in (folder / "stopped").iterdir()),
        "undisturbed": _plain(undisturbed.network),
        "resumed": _plain(resumed.network),
    }


def one_bad_loss() -> tuple[float, float, int]:
    """Update once with a loss that is infinite in one process, though its gradient is finite; then with good ones."""
    join_processes(device="cpu")
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    network = distribute(layer, device="cpu")
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    optimization = Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"))
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.state.output = {}
    for offset in (float("inf") * process_rank() if process_rank() else 0.0, 2.0 * process_rank()):
        optimization.update(engine, network(torch.ones(1, 1)).sum() + offset)
    return layer.weight.item(), float(engine.state.output["loss"]), optimization.skipped


def dice_table(counts: list[int]) -> list[tuple[float | None, list]]:
    """Return the mean and the table of a validation of `count` cases, for each count."""
    if "RANK" in os.environ:
        join_processes(device="cpu")
    return [_dice_of(count) for count in counts]


def _dice_of(count: int) -> tuple[float | None, list]:
    cases = [torch.nn.functional.one_hot(torch.arange(8) % (3 + i) % 3, 3).T.float() for i in range(count)]
    sampler = CaseSampler(cases, rank=process_rank(), world_size=process_count())
    evaluator = Engine(lambda engine, batch: (batch, cases[0][None]))
    MeanDiceOfCases(data=cases, output_transform=lambda pair: pair).attach(evaluator, "dice")
    evaluator.run(DataLoader(cases, batch_size=1, sampler=sampler, num_workers=0))
    return evaluator.state.metrics["dice"], evaluator.state.metric_details["dice"].tolist()


def buffers_of_each() -> list[float]:
    """Return a running mean after every process was given the main one's."""
    join_processes(device="cpu")
    layer = torch.nn.BatchNorm1d(2)
    layer.running_mean.fill_(1.0 + process_rank())
    evaluator = Engine(lambda engine, batch: None)
    SameBuffers(network=layer).attach(evaluator)
    evaluator.run([0])
    return layer.running_mean.tolist()


def agreed() -> dict[str, Any]:
    """Return what processes agree on when only the last one raises a flag."""
    join_processes(device="cpu")
    join_processes(device="cpu")
    agreement = Agreement()
    last = process_rank() == process_count() - 1
    return {"any": agreement.any(last, False), "gathered": list(agreement.gather(process_rank()))}


def _plain(network: torch.nn.Module) -> State:
    # NumPy arrays do not share memory with a process that is about to end
    return {name: tensor.detach().clone().numpy() for name, tensor in network.state_dict().items()}
