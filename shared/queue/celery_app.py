"""All Celery configuration, once, for both sides of the queue."""

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from shared.broker_url import for_kombu, for_server
from shared.queue import keys
from shared.queue.contract import PREDICT_TASK, RUN_JOBS_TASK, SHADOW_TASK, Lane
from shared.settings import CommonSettings


def make_celery(settings: CommonSettings) -> Celery:
    """Return a configured Celery application that is not connected yet.

    Where there are Sentinels, its URL names the first of them, and the transport option `sentinels` is for a transport
    that asks them (`worker/consumer/transport.py`). kombu's own would forget ours when it goes on to the next Sentinel.
    """
    server, sentinels = for_server(settings.redis_url)
    url, url_options = for_kombu(server)
    app = Celery("headrace", broker=url, set_as_current=False)
    app.conf.update(_configuration(settings))
    app.conf.broker_transport_options.update(url_options, sentinels=sentinels)
    return app


def _configuration(settings: CommonSettings) -> dict[str, Any]:
    return {
        # JSON only, so that a writer to the queue cannot run code. Outcomes go to the jobs' records and to reply
        # streams, so there is no result backend.
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        # The anonymous exchange: a list with the name of the lane, and no bindings in Redis that an eviction could
        # remove.
        "task_queues": [Queue(lane.value, Exchange(""), routing_key=lane.value) for lane in Lane],
        "task_routes": {
            PREDICT_TASK: {"queue": Lane.INTERACTIVE.value},
            RUN_JOBS_TASK: {"queue": Lane.BULK.value},
            SHADOW_TASK: {"queue": Lane.BULK.value},
        },
        "task_create_missing_queues": False,
        # A killed worker's task is delivered again. A task that kills its child is not, because it would loop: the
        # job's record counts attempts instead. A failure and a timeout are final.
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "worker_prefetch_multiplier": 1,
        "task_soft_time_limit": settings.task_soft_time_limit_seconds,
        "task_time_limit": settings.task_time_limit_seconds,
        # Time for which the result of a dead child may still be in its pipe; 10 s by default.
        "worker_lost_wait": 0.5,
        # 4 s by default: a slower warm-up would be killed and forked again for ever.
        "worker_proc_alive_timeout": 60.0,
        # True would end the running task when Redis restarts, and lose it.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # For celery-exporter; worker/consumer/remote_control.py answers its questions.
        "worker_send_task_events": True,
        # True would let any message on its channel end a worker.
        "worker_enable_remote_control": False,
        # The worker recovers from every fault of the broker by itself, however long that takes.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            # No priorities: one list per queue to wait for instead of four.
            "priority_steps": [0],
            "visibility_timeout": settings.visibility_timeout_seconds,
            # By default a sweep of unacknowledged tasks can come 100 s late.
            "unacked_restore_interval": 5,
            # Of its own: celery-exporter may write kombu's key, and could hold the lock for ever.
            "unacked_mutex_key": keys.RESTORE_LOCK,
            # 300 s by default: so long nobody would sweep after a worker that was killed while it did.
            "unacked_mutex_expire": 10,
            # Paid once for each connection that died unnoticed, one after another, and meanwhile nothing is consumed.
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            # A silent BRPOP connection is given up after this and a second.
            "health_check_interval": 2,
        },
    }
