"""A study's numbers as a table, and the paragraphs below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medssl.studies.plan import StudyPlan
from medssl.studies.summary import BOOTSTRAP, INTERVAL, Estimate, Results, Row, labels_saved

HEADINGS = ("labelled", "arm", "Dice", "difference", "against", "p (Holm)", "draws", "seconds a run")
# Share of the budget that a run may lie beside it before that is told
_BESIDE = 0.02


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of the table under `HEADINGS`, a line for each row."""
    return [
        (
            str(row.labelled),
            row.arm,
            _shown(row.dice),
            "" if row.difference is None else _shown(row.difference, signed=True),
            row.against,
            _shown_p(row),
            f"1, {row.dice.seeds} seeds" if row.dice.seeds else str(row.dice.draws),
            f"{row.seconds:.0f}",
        )
        for row in rows
    ]


def _shown_p(row: Row) -> str:
    """Return a corrected p-value; below what resampling can resolve, its bound."""
    if row.p_holm is None:
        return ""
    unresolved = row.difference is not None and row.difference.p is not None and row.difference.p <= 1 / BOOTSTRAP
    return f"{'< ' if unresolved else ''}{row.p_holm:.3g}"


def notes(plan: StudyPlan, rows: Sequence[Row], results: Results) -> list[str]:
    """Return the paragraphs below the table: intervals, what is missing or beside its budget, labels saved.

    Args:
        plan: The study.
        rows: Rows of its table.
        results: What the rows were made of.
    """
    against = {row.arm: row.against for row in rows}
    saved = [
        f"{arm} with {_labels(count)} equals {against[arm]} with about {needed:.1f}."
        for arm, counts in labels_saved(rows).items()
        for count, needed in counts.items()
        if needed is not None and needed > count
    ]
    left_out = {row.labelled: row.undefined for row in rows if row.undefined}
    undefined = [
        f"With {_labels(count)}, {number} of the scored cases left out: Dice is undefined in some run."
        for count, number in left_out.items()
    ]
    counts = sorted({each["labelled"] for each in results if "dice" in each} - {row.labelled for row in rows})
    undefined += [f"With {_labels(count)}, no scored case has a Dice in every run." for count in counts]
    paragraphs = [_missing(plan, results), _beside_budget(plan, rows), saved]
    return [INTERVAL, *undefined, *("\n".join(sentences) for sentences in paragraphs if sentences)]


def markdown(rows: Sequence[Row], told: Sequence[str]) -> str:
    """Return the table as Markdown, with the paragraphs of `notes` and others below it."""
    lines = [f"| {' | '.join(cells)} |" for cells in (HEADINGS, *table(rows))]
    return "\n".join([lines[0], "|---" * len(HEADINGS) + "|", *lines[1:], "", "\n\n".join(told)]) + "\n"


def _missing(plan: StudyPlan, results: Results) -> list[str]:
    """Return sentences on the arms that lack runs, whose means are over other draws than those of the rest."""
    wanted = Counter((run.labelled, run.arm.name) for run in plan.runs())
    found = Counter((each["labelled"], each["arm"]) for each in results if "dice" in each)
    sentences = [
        f"{arm} with {_labels(count)}: {found[count, arm]} of {number} runs."
        for (count, arm), number in wanted.items()
        if found[count, arm] < number
    ]
    return ["Runs are missing or failed, so means are over fewer draws or seeds:", *sentences] if sentences else []


def _beside_budget(plan: StudyPlan, rows: Sequence[Row]) -> list[str]:
    """Return sentences on the arms that passed clearly more or fewer patches than the budget, if there are any."""
    sentences = []
    for row in rows:
        arm = plan.arm(row.arm)
        if arm.single_views_of is not None:  # trains nothing; its source is told
            continue
        budget = plan.budget_of(arm)
        share = 0.0 if row.patches is None else row.patches / budget - 1
        if row.patches is not None and abs(share) > _BESIDE:
            beside = f"{abs(share):.1%} {'more' if share > 0 else 'fewer'} than its budget of {budget}"
            sentences.append(
                f"{row.arm} with {_labels(row.labelled)} passed {row.patches:.0f} patches forward and back: {beside}."
            )
    return ["Not all arms kept to the budget:", *sentences] if sentences else []


def _labels(count: int) -> str:
    return f"{count} label{'' if count == 1 else 's'}"


def _shown(estimate: Estimate, *, signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:{form}}"
    return f"{estimate.mean:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"
