import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from gateway.catalog.served_model import ServedModel
from gateway.fairness.written import WrittenDocuments
from gateway.services import Services
from gateway.settings import GatewaySettings
from tests.support.coroutines import run, turns, until
from tests.support.manifests import classifier, stored
from tests.support.processes import PATIENCE_SECONDS


@pytest.fixture
def versions(tmp_path: Path) -> list[ServedModel]:
    """Four versions in memory."""
    store = stored(tmp_path, classifier())
    settings: dict[str, Any] = {"default_model": "sticks", "redis_url": "redis://127.0.0.1:1"}
    services = Services(GatewaySettings(**settings, model_store=str(tmp_path)), store)
    return [services.catalog._make(classifier(version=f"v{number}")) for number in range(4)]


def document(served: ServedModel) -> bytes:
    return served.manifest.version.encode()


def test_a_document_is_written_once_for_each_version_and_never_on_the_event_loop(versions: list[ServedModel]) -> None:
    described: list[ServedModel] = []
    threads: set[int] = set()

    def describe(served: ServedModel) -> bytes:
        described.append(served)
        threads.add(threading.get_ident())
        return document(served)

    documents = WrittenDocuments(describe)

    async def asking() -> list[bytes]:
        answers = await asyncio.gather(*(documents.of(versions[0], str(number)) for number in range(5)))
        return [*answers, await documents.of(versions[1]), await documents.of(versions[0])]

    assert run(asking()) == [*[b"v0"] * 5, b"v1", b"v0"]
    assert described == versions[:2]
    assert threading.get_ident() not in threads


def test_the_first_written_make_room(versions: list[ServedModel]) -> None:
    documents = WrittenDocuments(document, 2 * len(document(versions[0])))

    async def asking() -> None:
        for served in versions:
            await documents.of(served)

    run(asking())
    assert [*documents._kept] == versions[2:]


def test_documents_go_with_their_versions(versions: list[ServedModel]) -> None:
    documents = WrittenDocuments(document)
    run(documents.of(versions.pop()))
    assert not documents._kept


def test_another_owner_waits_for_one_document_of_many(versions: list[ServedModel]) -> None:
    written: list[str] = []

    def describe(served: ServedModel) -> bytes:
        written.append(served.manifest.version)
        return document(served)

    documents = WrittenDocuments(describe)

    async def asking() -> None:
        owners = ("ann", "ann", "ann", "bob")
        await asyncio.gather(*map(documents.of, versions, owners))

    run(asking())
    assert written == ["v0", "v3", "v1", "v2"]


def test_nothing_is_written_for_a_caller_who_left_before_its_turn(versions: list[ServedModel]) -> None:
    async def left() -> bool:
        return True

    documents = WrittenDocuments(document)
    with pytest.raises(ClientDisconnect):
        run(documents.of(versions[0], "ann", left))
    assert not documents._kept


def test_callers_who_are_cancelled_never_have_two_threads(versions: list[ServedModel]) -> None:
    may_end, writing, most = threading.Event(), [0], [0]

    def describe(served: ServedModel) -> bytes:
        writing[0] += 1
        most[0] = max(most[0], writing[0])
        assert may_end.wait(PATIENCE_SECONDS)
        writing[0] -= 1
        return document(served)

    documents = WrittenDocuments(describe)

    async def asking() -> bytes:
        given_up = asyncio.create_task(documents.of(versions[0], "ann"))
        await until("a thread", lambda: writing[0])
        given_up.cancel()
        other = asyncio.create_task(documents.of(versions[1], "bob"))
        await turns()
        assert not other.done()
        may_end.set()
        await asyncio.wait([given_up])
        assert given_up.cancelled() and versions[0] in documents._kept
        return await other

    assert run(asking()) == b"v1"
    assert most == [1]
