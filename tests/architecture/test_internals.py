"""The parts of other libraries that are private, undocumented, patched or copied, and the modules that use them.

A failure after an upgrade means that such a part has changed. It names the module that depends on the part: read the
part's new source, adapt the module and its tests, then the entry here. The upper bounds in pyproject.toml keep such
upgrades from happening unnoticed. `test_private_names.py` checks that nothing is missing here.
"""

import hashlib
import importlib
import inspect
import re
from typing import Any

import pytest

from tests.support.processes import REPOSITORY

USED = {
    "gateway/broker/raw_connection.py": {"redis.asyncio.connection:Connection": "_reader _writer"},
    "gateway/broker/redis_client.py": {
        "redis.asyncio.connection:Connection": "connect_check_health is_connected read_response send_packed_command",
    },
    "gateway/metrics.py": {"prometheus_client:Histogram": "_buckets _sum _upper_bounds"},
    "gateway/web/graceful_stop.py": {
        "uvicorn:Server": "handle_exit server_state",
        "uvicorn.server:ServerState": "connections tasks",
        "uvicorn.supervisors:Multiprocess": "sockets terminate_all",
    },
    "gateway/web/hot_cycle.py": {
        "uvicorn.protocols.http.httptools_impl": "STATUS_LINE",
        "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": (
            "cycle expect_100_continue flow headers loop on_response_complete parser scheme scope server_state "
            "tasks transport url"
        ),
        "uvicorn.protocols.http.flow_control:FlowControl": "drain write_paused",
    },
    "gateway/web/http_protocol.py": {
        "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": (
            "_start_asgi_task _unset_keepalive_if_required app_state cycle expect_100_continue flow headers loop "
            "on_header on_headers_complete on_message_complete on_response_complete parser pipeline scope "
            "server_state shutdown timeout_keep_alive timeout_keep_alive_handler timeout_keep_alive_task transport"
        ),
        "uvicorn.protocols.http.httptools_impl:RequestResponseCycle": (
            "body disconnected keep_alive message_event more_body response_complete response_started scope"
        ),
        "uvicorn.protocols.http.flow_control:FlowControl": "pause_reading read_paused",
    },
    "gateway/web/request_parser.py": {
        "uvicorn.protocols.http.httptools_impl": "STATUS_LINE",
        "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": "headers parser url",
        "httptools:HttpRequestParser": "get_http_version get_method set_dangerous_leniencies should_upgrade",
    },
    "headrace/loading/arrays.py": {
        "joblib.numpy_pickle:NumpyArrayWrapper": (
            "allow_mmap dtype order safe_get_numpy_array_alignment_bytes shape subclass"
        ),
    },
    "headrace/loading/fitted/ensembles.py": {
        "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    },
    "headrace/loading/fitted/neighbours.py": {"sklearn.cluster._bisect_k_means": "_BisectingTree"},
    "headrace/loading/fitted/places.py": {
        "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration",
        "sklearn.cluster._birch": "_CFNode _CFSubcluster",
        "sklearn.cluster._bisect_k_means": "_BisectingTree",
        "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
        "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
        "sklearn.impute._iterative": "_ImputerTriplet",
        "sklearn.linear_model._glm.glm": "_GeneralizedLinearRegressor",
        "sklearn.multiclass": "_ConstantPredictor",
    },
    "headrace/loading/links.py": {
        "sklearn.cluster._kmeans": "_BaseKMeans",
        "sklearn.multioutput": "_BaseChain",
        "sklearn.preprocessing:PolynomialFeatures": "_num_combinations",
        "sklearn.svm:SVC": "_impl",
    },
    "headrace/loading/unpickler.py": {
        "_compat_pickle": "IMPORT_MAPPING NAME_MAPPING",
        "joblib.numpy_pickle": "NumpyArrayWrapper NumpyUnpickler",
        "joblib.numpy_pickle:NumpyArrayWrapper": "dtype",
        "joblib.numpy_pickle_utils": "_validate_fileobject_and_memmap",
        "pickle": "_Unpickler",
        "pickle:_Unpickler": (
            "_unframer append dispatch find_class load load_additems load_append load_appends load_build load_dict "
            "load_frozenset load_newobj load_newobj_ex load_reduce load_setitem load_setitems memo metastack proto "
            "read stack"
        ),
    },
    "shared/master.py": {
        "redis:Connection": "connect_check_health is_connected read_response send_packed_command",
    },
    "shared/observability/multiprocess.py": {
        "prometheus_client.values": "MmapedDict MultiProcessValue ValueClass",
        "prometheus_client.multiprocess": "mark_process_dead",
    },
    "worker/consumer/acks.py": {
        "celery.worker.state": "active_requests",
        "kombu.transport.redis": "Mutex MutexHeld",
        "kombu.transport.redis:QoS": "_delivered unacked_index_key unacked_key unacked_mutex_expire unacked_mutex_key",
        "kombu.transport.redis:Channel": "conn_or_acquire pool",
        "kombu.transport.virtual:Message": "_raw",
    },
    "worker/consumer/blocking_poll.py": {
        "kombu.transport.redis:Channel": "_brpop_read _in_poll conn_or_acquire",
        "redis:Connection": "_sock",
    },
    "worker/consumer/celery_logging.py": {"celery.apps.worker": "safe_say", "billiard.util": "get_logger"},
    "worker/consumer/crashes.py": {
        "billiard.einfo": "ExceptionInfo ExceptionWithTraceback",
        "celery.worker.request": "Request",
        "celery.worker.request:Request": "on_failure",
    },
    "worker/consumer/dispatch.py": {
        "billiard.pool:ApplyResult": "_write_to",
        "billiard.pool:Pool": "_cache",
        "celery.concurrency.asynpool:AsynPool": (
            "_active_writers _active_writes _all_inqueues _busy_workers _flush_writer _writer flush"
        ),
        "celery.concurrency.prefork:TaskPool": "_pool flush",
        "celery.events.dispatcher:EventDispatcher": "buffer_limit flush on_send_buffered",
        "celery.worker.consumer:Consumer": "hub on_task_request pool timer",
        "celery.worker.consumer.events": "event_dispatcher",
        "kombu.asynchronous.hub:Hub": "consolidate_callback",
    },
    "worker/consumer/lanes.py": {"kombu.utils.scheduling:round_robin_cycle": "consume"},
    "worker/consumer/pool.py": {
        "billiard.einfo": "Traceback",
        "billiard.util": "get_pdeathsig set_pdeathsig",
        "billiard.pool:Pool": "_join_exited_workers _pool _repopulate_pool maintain_pool",
        "celery.concurrency.asynpool:AsynPool": "_sentinel_poll _waiting_to_start",
        "celery.concurrency.prefork:TaskPool": "_pool",
    },
    "worker/consumer/remote_control.py": {
        "billiard.pool:Pool": "_pool",
        "celery.concurrency.prefork:TaskPool": "_pool",
    },
    "worker/consumer/shutdown.py": {
        "billiard.pool": ("GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT"),
        "celery.worker.state": "should_stop should_terminate",
        "celery.worker:WorkController": "exitcode",
    },
    "worker/consumer/transport.py": {
        "celery.app.amqp:AMQP": "BrokerConnection Connection",
        "kombu.connection:Connection": "_establish_connection ensure_connection",
        "kombu.transport.redis:Channel": (
            "_basic_cancel _brpop_read _brpop_start _connparams _flush_brpop_reauth _in_poll _queue_bind _queue_cycle "
            "active_queues basic_ack basic_reject conn_or_acquire connection_class connection_class_ssl "
            "connection_errors from_transport_options sep"
        ),
        "kombu.transport.redis:Transport": "Channel _deliver",
    },
    "worker/consumer/watchdog.py": {
        "celery.worker.state": "all_total_count reserved_requests should_stop",
        "sys": "_current_frames",
    },
    "worker/metrics/families.py": {"prometheus_client:Histogram": "_buckets _sum _upper_bounds"},
    "worker/metrics/worker.py": {"billiard.process": "current_process"},
    "worker/model/loader.py": {"billiard.common": "terminate_handler_fired"},
}
"""Module of ours -> module or class of a library -> names of it that the module uses."""

COPIED = [
    ("worker/consumer/transport.py", "kombu.transport.redis:Channel._brpop_read", "c42518699709f2df"),
    ("worker/consumer/acks.py", "kombu.transport.redis:QoS.ack", "1bc15a4ddf541af6"),
    ("worker/consumer/acks.py", "kombu.transport.redis:QoS.append", "35c655f6ecc62fe6"),
    ("worker/consumer/acks.py", "kombu.transport.redis:QoS.restore_visible", "d4a4a40a3eaf9f23"),
    (
        "gateway/web/hot_cycle.py",
        "uvicorn.protocols.http.httptools_impl:RequestResponseCycle.send",
        "abdd8601b326a8da",
    ),
    ("gateway/metrics.py", "prometheus_client:Histogram.observe", "38beca3be1d1595b"),
    ("worker/metrics/families.py", "prometheus_client:Histogram.observe", "38beca3be1d1595b"),
    ("shared/observability/multiprocess_files.py", "prometheus_client.mmap_dict:MmapedDict", "6e06f65ed9e69bbe"),
    ("shared/observability/multiprocess_sums.py", "prometheus_client.mmap_dict:mmap_key", "0ad2f70c6bf8b89f"),
    (
        "shared/observability/multiprocess_sums.py",
        "prometheus_client.multiprocess:MultiProcessCollector",
        "0f2c852777f6f9ac",
    ),
    ("headrace/loading/arrays.py", "joblib.numpy_pickle:NumpyArrayWrapper.read_array", "df5a2818ac93b6b0"),
    ("headrace/loading/arrays.py", "joblib.numpy_pickle:NumpyArrayWrapper.read_mmap", "06b743a43ab56b64"),
    ("headrace/loading/unpickler.py", "joblib.numpy_pickle:NumpyUnpickler.load_build", "b742a6fe1f923df5"),
]
"""Module of ours, the part of a library that it copies or adapts, and the first digits of its source's SHA-256."""

RELIED_ON = [
    ("worker/consumer/transport.py", "kombu.transport.redis:Channel._basic_cancel", "f799ede5037500a9"),
    ("worker/consumer/transport.py", "kombu.transport.redis:Channel._connparams", "e9a4295085a8fb90"),
    ("worker/consumer/blocking_poll.py", "kombu.transport.redis:Channel._brpop_start", "06723d707ddf2240"),
    ("worker/consumer/acks.py", "kombu.transport.redis:QoS.restore_by_tag", "58e161d81b6fe18d"),
    ("worker/consumer/dispatch.py", "celery.concurrency.asynpool:AsynPool._create_write_handlers", "f5f9b8dc805bea71"),
    ("worker/consumer/dispatch.py", "celery.concurrency.asynpool:AsynPool._flush_writer", "07f00b50a5805eb3"),
    ("worker/consumer/dispatch.py", "celery.concurrency.asynpool:AsynPool.flush", "a7671d710b578e35"),
    ("worker/consumer/dispatch.py", "celery.events.dispatcher:EventDispatcher.send", "eb70b87b4c68ed01"),
    ("worker/consumer/remote_control.py", "kombu.pidbox:Mailbox._broadcast", "5a0035eb9b42d425"),
    ("worker/consumer/remote_control.py", "kombu.pidbox:Mailbox._publish", "edb51c9fac1f83ca"),
    ("worker/consumer/remote_control.py", "kombu.pidbox:Mailbox._publish_reply", "20f67e736e06e711"),
    ("gateway/web/http_protocol.py", "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol", "18fdf324b11bf160"),
]
"""Module of ours, a part of a library whose steps it relies on, and the first digits of its source's SHA-256."""

PHRASES = [
    ("worker/consumer/pool.py patches", "billiard.einfo:ExceptionInfo.__init__", "Traceback(tb)"),
    (
        "worker/consumer/shutdown.py patches",
        "billiard.pool:Worker._ensure_messages_consumed",
        "range(GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT)",
    ),
    (
        "worker/consumer/crashes.py keeps from its main process a report at",
        "celery.worker.request:Request.on_failure",
        "elif isinstance(exc, MemoryError):\n            raise MemoryError(",
    ),
    (
        "worker/model/loader.py tells by a flag the exit of a child from that of a model, as does",
        "billiard.pool:Worker.workloop",
        "if terminate_handler_fired():",
    ),
    ("worker/consumer/celery_logging.py patches", "celery.apps.worker", "safe_say(f'worker: {how} shutdown"),
    ("shared/observability/multiprocess.py patches", "prometheus_client:Histogram", "values.ValueClass("),
    (
        "shared/observability/multiprocess.py patches",
        "prometheus_client.values:MultiProcessValue",
        "files[file_prefix] = MmapedDict(filename)",
    ),
    (
        "worker/consumer/pool.py notes who dies between the two steps of",
        "billiard.pool:Pool._maintain_pool",
        "joined = self._join_exited_workers()\n        self._repopulate_pool(joined)",
    ),
    (
        "worker/consumer/pool.py gives a dead child the descriptor of",
        "celery.concurrency.asynpool:AsynPool._track_child_process",
        "fd = proc._sentinel_poll\n",
    ),
    (
        "gateway/api/endpoint.py sets the fields of a response without its constructor for",
        "starlette.responses:Response.__call__",
        '"status": self.status_code,',
    ),
]
"""Module of ours, with what it does to a part of a library, the part, and a phrase of its source that makes it work."""


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [(module, owner, name) for module in USED for owner, names in USED[module].items() for name in names.split()],
)
def test_a_part_that_is_used_is_still_there(module: str, owner: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", (REPOSITORY / module).read_text()), f"{module} uses {name} no longer: drop it here"
    found = resolve(owner)
    # Attributes that only instances have are assigned somewhere in the source.
    there = hasattr(found, name) or re.search(rf"\.{name}\b.* = ", source_of(found))
    assert there, f"{owner} has no {name} any more, which {module} uses"


@pytest.mark.parametrize(("module", "part", "digest"), [*COPIED, *RELIED_ON])
def test_a_part_that_was_read_closely_is_unchanged(module: str, part: str, digest: str) -> None:
    now = hashlib.sha256(inspect.getsource(resolve(part)).encode()).hexdigest()
    assert now.startswith(digest), f"{part} has changed, read it beside {module}; its digest is {now[:16]}"


@pytest.mark.parametrize(("use", "part", "phrase"), PHRASES)
def test_a_patched_part_still_works_as_it_did(use: str, part: str, phrase: str) -> None:
    assert phrase in inspect.getsource(resolve(part)), f"{use} {part}, which has changed"


def test_a_consumer_has_its_callback_before_its_steps_are_made() -> None:
    """`DispatchStep` replaces `on_task_request` before the consumer gives it to the strategies of its tasks."""
    names = list(resolve("celery.worker.consumer:Consumer").__init__.__code__.co_names)
    assert names.index("on_task_request") < names.index("apply")


def resolve(part: str) -> Any:
    """Return the object with a name of the form `module:qualified.name`."""
    module, _, name = part.partition(":")
    found: Any = importlib.import_module(module)
    for each in filter(None, name.split(".")):
        found = getattr(found, each)
    return found


def source_of(owner: Any) -> str:
    """Return the source of a module or function, or of a class and its bases."""
    if not inspect.isclass(owner):
        return inspect.getsource(owner)
    return "\n".join(inspect.getsource(each) for each in owner.__mro__ if each.__module__ != "builtins")
