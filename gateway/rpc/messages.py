"""Messages of the protocol, from the descriptors that protoc has made of the `.proto` files beside this module.

`python -m grpc_tools.protoc -I gateway/rpc --include_imports --descriptor_set_out=gateway/rpc/messages.binpb
inference.proto health.proto status.proto` makes them anew; a test compares them. They are in a pool of their own: the
one that all modules share may hold another copy of the protocol.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DESCRIPTORS = Path(__file__).with_name("messages.binpb")

INFERENCE = "inference"
HEALTH = "grpc.health.v1"
RPC = "google.rpc"


@lru_cache(maxsize=1)
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)
    return pool


@lru_cache(maxsize=64)
def message_class(package: str, name: str) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{package}.{name}"))
