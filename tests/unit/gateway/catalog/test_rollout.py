from collections import Counter

import pytest

from gateway.catalog.rollout import Rollout, RunningTrial

KEYS = [f"user-{i}" for i in range(10_000)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_new_version_gets_its_share_of_the_keys(share: float) -> None:
    rollout = Rollout(RunningTrial("new", share))

    answered = Counter(rollout.choose("old", "iris", key) for key in KEYS)

    # At most four standard deviations, and the keys are the same in every run.
    assert answered["new"] / len(KEYS) == pytest.approx(share, abs=0.02)


def test_a_key_always_gets_the_same_version() -> None:
    rollout = Rollout(RunningTrial("new", 0.5))
    others = Rollout(RunningTrial("newer", 0.5), RunningTrial("shadow", 0.5))

    for key in KEYS[:500]:
        answers = {rollout.choose("old", "iris", key) for _ in range(3)}
        assert len(answers) == 1
        assert (answers == {"new"}) == (others.choose("old", "iris", key) == "newer")


def test_a_greater_share_keeps_the_keys_of_the_smaller_one() -> None:
    few, many = (
        {key for key in KEYS[:2000] if Rollout(RunningTrial("new", share)).choose("old", "iris", key) == "new"}
        for share in (0.1, 0.4)
    )

    assert few < many


def test_each_model_splits_the_keys_in_its_own_way() -> None:
    rollout = Rollout(RunningTrial("new", 0.5))
    both = [key for key in KEYS if all(rollout.choose("old", name, key) == "new" for name in ("iris", "sticks"))]

    assert len(both) / len(KEYS) == pytest.approx(0.25, abs=0.03)


def test_without_a_key_chance_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = Rollout(RunningTrial("new", 0.25))
    answered = Counter(rollout.choose("old", "iris", "") for _ in range(10_000))
    assert answered["new"] / 10_000 == pytest.approx(0.25, abs=0.03)

    for chance, version in ((0.0, "new"), (0.2499, "new"), (0.25, "old"), (0.9999, "old")):
        monkeypatch.setattr("gateway.catalog.rollout.random.random", lambda chance=chance: chance)
        assert rollout.choose("old", "iris", "") == version


@pytest.mark.parametrize("key", ["", *KEYS[:20]])
def test_a_share_may_be_all_or_nothing(key: str) -> None:
    assert Rollout(RunningTrial("new", 1.0)).choose("old", "iris", key) == "new"
    assert Rollout(RunningTrial("new", 0.0)).choose("old", "iris", key) == "old"
    assert Rollout[str]().choose("old", "iris", key) == "old"


def test_a_shadow_is_drawn_by_its_share() -> None:
    asked = Counter(Rollout(shadow=RunningTrial("new", 0.25)).draw_shadow() for _ in range(10_000))

    assert asked["new"] / 10_000 == pytest.approx(0.25, abs=0.03)
    assert {Rollout(shadow=RunningTrial("new", 1.0)).draw_shadow() for _ in range(100)} == {"new"}
    assert {Rollout(RunningTrial("new", 1.0)).draw_shadow() for _ in range(100)} == {None}
