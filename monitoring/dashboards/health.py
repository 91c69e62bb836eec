"""The row that answers at a glance, and in this order: is it up, can it work, has anything got lost?"""

from monitoring.dashboards.panels import GREEN, RED, YELLOW, Query, Row, number
from monitoring.dashboards.promql import agreed

# Prometheus' scrape jobs. A job whose name DNS no longer knows has no `up` at all, hence the zero.
TARGETS = [
    Query(f'sum(up{{job="{job}"}}) or vector(0)', job) for job in ("gateway", "worker", "celery-exporter", "prometheus")
]

# Each gateway's own three numbers are compared, because those were read in the same moment.
UNACCOUNTED_JOBS = (
    "max(abs(inference_jobs_accepted_total"
    " - on (job, instance) sum by (job, instance) (inference_jobs_ended_total)"
    " - on (job, instance) inference_jobs_open))"
)

ZERO_IS_BAD = ((0, RED), (1, GREEN))


def health_row() -> Row:
    """Numbers of the present moment."""
    return Row(
        "Health",
        4,
        [
            (
                8,
                number(
                    "Targets up",
                    "How many processes of each kind Prometheus can scrape.",
                    "none",
                    *TARGETS,
                    steps=ZERO_IS_BAD,
                    names={"0": ("down", RED)},
                ),
            ),
            (
                3,
                number(
                    "Broker",
                    "Whether every gateway reaches Redis. If not, new requests get 503; accepted jobs are safe in it.",
                    "none",
                    Query("min(inference_broker_up)"),
                    names={"0": ("down", RED), "1": ("up", GREEN)},
                ),
            ),
            (
                3,
                number(
                    "Workers",
                    "Workers that announced themselves through the broker within the last seconds.",
                    "none",
                    Query(agreed("inference_workers")),
                    steps=ZERO_IS_BAD,
                ),
            ),
            (
                3,
                number(
                    "Slots",
                    "Batches that all workers together can compute at the same time.",
                    "none",
                    Query(agreed("inference_worker_slots")),
                    steps=ZERO_IS_BAD,
                ),
            ),
            (
                3,
                number(
                    "Dead letters",
                    "Queue entries that were not tasks and were put aside. Something else writes to this Redis.",
                    "none",
                    Query(agreed("inference_dead_letters")),
                    steps=((0, GREEN), (1, YELLOW)),
                ),
            ),
            (
                4,
                number(
                    "Unaccounted jobs",
                    "Accepted jobs minus ended jobs minus open jobs. Anything but 0 means that a job was lost or "
                    "ended twice, or that Redis was emptied.",
                    "none",
                    Query(UNACCOUNTED_JOBS),
                    steps=((0, GREEN), (1, RED)),
                ),
            ),
        ],
    )
