from dataclasses import replace
from typing import cast

import pytest

from gateway.catalog.alias_state import AliasState
from gateway.catalog.rollout import Rollout, RunningTrial
from gateway.catalog.served_model import ServedModel

ROLLOUT = Rollout(RunningTrial(cast(ServedModel, object()), 0.5))
AT_REST = AliasState("v1", rollout=ROLLOUT)
MOVING = replace(AT_REST, wanted="v2", since=10.0)
NEW = AliasState(None, wanted="v1", since=5.0)


@pytest.mark.parametrize(
    ("state", "version", "after"),
    [
        (AliasState(), "v1", AliasState(None, "v1", 20.0)),
        (AT_REST, "v1", AT_REST),
        (AT_REST, "v2", replace(AT_REST, wanted="v2", since=20.0)),
        (MOVING, "v2", MOVING),
        (MOVING, "v3", replace(AT_REST, wanted="v3", since=20.0)),
        (MOVING, "v1", replace(MOVING, wanted=None)),
    ],
    ids=["a new alias", "unchanged", "a move", "waiting", "another move", "taken back"],
)
def test_a_move_starts_when_the_store_names_another_version(state: AliasState, version: str, after: AliasState) -> None:
    assert state.pointed_to(version, now=20.0) == after


@pytest.mark.parametrize(("state", "version"), [(MOVING, "v2"), (NEW, "v1")])
def test_a_move_ends_with_the_wanted_version(state: AliasState, version: str) -> None:
    moved = state.moved()

    assert (moved.current, moved.wanted, moved.rollout) == (version, None, state.rollout)


@pytest.mark.parametrize(("state", "after"), [(AT_REST, ("v0", "v1", 20.0)), (MOVING, ("v0", "v2", 10.0))])
def test_an_earlier_version_answers_until_the_wanted_one_can(state: AliasState, after: tuple[str, str, float]) -> None:
    fallen_back = state.fallen_back("v0", now=20.0)

    assert (fallen_back.current, fallen_back.wanted, fallen_back.since) == after
    assert fallen_back.pointed_to("v2" if state is MOVING else "v1", now=30.0) == fallen_back, "the move is pending"


def test_trials_are_replaced_as_a_whole() -> None:
    assert MOVING.with_rollout(Rollout()) == replace(MOVING, rollout=Rollout())


def test_an_alias_that_the_store_lost_keeps_its_version_only() -> None:
    assert MOVING.orphaned() == AliasState("v1")
