"""The scaling signal by the formula of `gateway.admission.scaling`, recorded by Prometheus.

The waits are those that the gateway estimates for requests that are accepted now, of either lane; they are not
told apart by worker group, so a wait raises the signal of every group. Groups are told apart where targets have the
label `worker_group`, and deployments where they have the label `namespace`, as the Helm chart's PodMonitor sees to.
"""

from typing import Any

from gateway.admission.scaling import BUSY_SECONDS, GROWTH_MAX, TARGET_WAIT_SECONDS
from monitoring.rules.forms import INTERVAL, group, record

WANTED = "worker_group:inference_workers:wanted"
"""Workers that a group needs; a fraction says how full the last of them would be."""

BY = "by (namespace, worker_group)"

BUSY = f"sum {BY} (avg_over_time(inference_batches_in_progress[{BUSY_SECONDS / 60:.0f}m]))"

SLOTS = f"sum {BY} (inference_worker_pool_processes)"


def _waits() -> str:
    """Return the sum of both lanes' waits, in targets. Without workers a wait is NaN, which is not compared."""
    lanes = "\n    or\n".join(
        f'    max by (namespace, lane) (inference_queue_estimated_wait_seconds{{lane="{lane}"}} >= 0) / {seconds}'
        for lane, seconds in TARGET_WAIT_SECONDS.items()
    )
    return f"clamp_max(sum by (namespace) (\n{lanes}\n  ), {GROWTH_MAX})"


def rules() -> dict[str, Any]:
    """Return the signal. A group without workers has none: then its autoscaler falls back to a fixed number."""
    waiting = f"({SLOTS} * on (namespace) group_left () {_waits()} or {SLOTS} * 0)"
    wanted = f"({BUSY} + {waiting})\n/ avg {BY} (inference_worker_pool_processes)"
    return {"groups": [group("scaling", record(WANTED, wanted), interval=INTERVAL)]}
