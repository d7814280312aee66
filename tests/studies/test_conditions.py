from typing import Any

from medssl.studies.conditions import grids_told, machines_told


def _run(arm: str, size: list[float], draw: int = 0) -> dict[str, Any]:
    return {"arm": arm, "labelled": 1, "draw": draw, "spacing_mm": size, "dice": {}}


def test_one_grid_is_named_once() -> None:
    results = [_run("a", [1.26, 1.26, 1.26]), _run("b", [1.26, 1.26, 1.26], draw=1)]
    assert grids_told(results) == "All arms worked at voxels of 1.26 x 1.26 x 1.26 mm."


def test_different_grids_of_one_draw_are_named_arm_by_arm() -> None:
    told = grids_told([_run("a", [1, 1, 3]), _run("b", [1.5, 1.5, 1.5]), _run("slices", [1, 1, -1])])
    assert told.endswith("different grids: a at 1 x 1 x 3 mm, b at 1.5 x 1.5 x 1.5 mm, slices at 1 x 1 x own mm.")


def test_grids_that_differ_between_draws_only_are_no_unequal_comparison() -> None:
    results = [_run(arm, [1, 1, 1 + draw], draw) for arm in "ab" for draw in (0, 1)]
    assert "all arms of a draw worked on the same grid" in grids_told(results)


def test_runs_that_do_not_tell_their_grid_or_failed_are_left_out() -> None:
    failed = {key: value for key, value in _run("b", [9, 9, 9]).items() if key != "dice"}
    assert grids_told([{"arm": "a", "labelled": 1, "draw": 0, "dice": {}}, failed]) == ""


def _on(machine: str) -> dict[str, Any]:
    return {"machine": machine, "dice": {}}


def test_machines_are_told_once_or_counted() -> None:
    assert machines_told([_on("CPU, float32")] * 2) == "All runs were trained on CPU, float32."
    told = machines_told([_on("CPU, float32"), *[_on("NVIDIA H100, bfloat16")] * 2, {"dice": {}}])
    assert told.endswith(
        "different machines: 2 on NVIDIA H100, bfloat16, 1 on CPU, float32, 1 where it was not recorded."
    )
    told = machines_told([_on("CPU, float32"), {"dice": {}}])
    assert told == "Runs were trained on CPU, float32; for 1 of them the machine was not recorded."
    assert machines_told([{"dice": {}}, {"machine": "CPU, float32", "error": "planted"}]) == ""
