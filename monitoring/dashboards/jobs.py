"""Panels of jobs: their outcomes, and whether any got lost."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED, YELLOW
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines, number
from monitoring.dashboards.promql import agreed, moving, moving_rate, rate, shown_increase
from monitoring.rules.alerts_queue import UNACCOUNTED_JOBS

ENDED = "inference_jobs_ended_total"
REJECTED = "inference_jobs_rejected_total"

ANYTHING_BUT_ZERO = "Anything but 0 means that a job was lost or ended twice, or that Redis was changed by hand."


def unaccounted() -> model.Panel:
    """Return the number of jobs that are lost or counted twice."""
    return number(
        "Unaccounted jobs",
        f"Accepted jobs minus ended jobs minus open jobs. {ANYTHING_BUT_ZERO}",
        "none",
        Query(UNACCOUNTED_JOBS),
        steps=((0, GREEN), (1, RED)),
    )


def dead_letters() -> model.Panel:
    """Return the number of queue entries that were put aside."""
    return number(
        "Dead letters",
        "Queue entries that no worker understands, and damaged data. Something else writes to this Redis.",
        "none",
        Query(agreed("inference_dead_letters")),
        steps=((0, GREEN), (1, YELLOW)),
    )


def jobs_row() -> Row:
    """Return the row of rates and losses."""
    return Row("Jobs", 8, [(8, _outcomes()), (8, _reconciled()), (8, _losses())])


def _outcomes() -> model.Panel:
    return lines(
        "Jobs by outcome",
        "Accepted and ended jobs. Over time both are equal. Jobs of which the model refused a row are failed ones too.",
        "ops",
        Query(agreed(rate("inference_jobs_accepted_total")), "accepted"),
        Query(
            moving(agreed(rate(ENDED), "outcome"), agreed(shown_increase(ENDED), "outcome")),
            "{{outcome}}",
        ),
        Query(moving(agreed(rate(REJECTED)), agreed(shown_increase(REJECTED))), "row refused"),
    )


def _reconciled() -> model.Panel:
    return lines(
        "Reconciled jobs",
        "Overdue jobs, by what a gateway did about them. All but waiting mean that an entry or a worker was lost.",
        "ops",
        Query(moving_rate("inference_jobs_reconciled_total", by=("action",)), "{{action}}"),
        no_value="no job was overdue",
    )


def _losses() -> model.Panel:
    return lines(
        "Lost jobs and dead letters",
        f"Every accepted job is open or has exactly one outcome, so this is 0. {ANYTHING_BUT_ZERO} Beside it, the "
        "queue entries and damaged data that were put aside.",
        "short",
        Query(UNACCOUNTED_JOBS, "unaccounted jobs"),
        Query(agreed("inference_dead_letters"), "dead letters"),
        limits=((1, RED),),
    )
