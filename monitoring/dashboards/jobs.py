"""Jobs: what became of them, and whether any got lost."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import GREEN, RED, YELLOW, Query, lines, number
from monitoring.dashboards.promql import agreed, rate, total
from monitoring.rules.alerts_queue import UNACCOUNTED_JOBS

ANYTHING_BUT_ZERO = "Anything but 0 means that a job was lost or ended twice, or that Redis was changed by hand."


def unaccounted() -> model.Panel:
    """Whether any got lost."""
    return number(
        "Unaccounted jobs",
        f"Accepted jobs minus ended jobs minus open jobs. {ANYTHING_BUT_ZERO}",
        "none",
        Query(UNACCOUNTED_JOBS),
        steps=((0, GREEN), (1, RED)),
    )


def dead_letters() -> model.Panel:
    """What was in the queue and was none."""
    return number(
        "Dead letters",
        "Queue entries that were not tasks and were put aside. Something else writes to this Redis.",
        "none",
        Query(agreed("inference_dead_letters")),
        steps=((0, GREEN), (1, YELLOW)),
    )


def jobs_row() -> Row:
    """Rates, then what is out of order."""
    return Row("Jobs", 8, [(8, _outcomes()), (8, _reconciled()), (8, _losses())])


def _outcomes() -> model.Panel:
    return lines(
        "Jobs by outcome",
        "Jobs accepted and jobs ended. Over time both are equal.",
        "ops",
        Query(agreed(rate("inference_jobs_accepted_total")), "accepted"),
        Query(agreed(rate("inference_jobs_ended_total"), "outcome"), "{{outcome}}"),
    )


def _reconciled() -> model.Panel:
    return lines(
        "Reconciled jobs",
        "Overdue jobs, by what a gateway did about them. All but waiting: a message or a worker was lost.",
        "ops",
        Query(total(rate("inference_jobs_reconciled_total"), "action"), "{{action}}"),
    )


def _losses() -> model.Panel:
    return lines(
        "Accepted − ended − open",
        f"Every accepted job is open or has exactly one outcome, so this is 0. {ANYTHING_BUT_ZERO} Beside it, queue "
        "entries that were no tasks.",
        "short",
        Query(UNACCOUNTED_JOBS, "unaccounted jobs"),
        Query(agreed("inference_dead_letters"), "dead letters"),
        limits=((1, RED),),
    )
