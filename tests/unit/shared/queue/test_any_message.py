"""Messages and rows that Hypothesis makes up arrive as they were sent."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.queue import keys
from shared.queue.contract import BatchReply, Call, Message, PredictMessage, RunJobsMessage, ShadowMessage
from shared.queue.packed_rows import packed
from tests.support.any_bytes import MESSAGES, check_payload
from tests.support.fuzzing import changed, fuzzed

TEXTS = st.text(max_size=10)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.floats(0, 1e11, exclude_max=True)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS
ROWS = st.lists(st.lists(VALUES, max_size=3), max_size=3)
CALLS = st.lists(st.builds(Call, st.integers(1, 2**31 - 1), TIMES, TIMES, st.booleans()), max_size=3)
RESULTS = st.fixed_dictionaries(
    {"predictions": st.lists(VALUES, max_size=3), "probabilities": st.none() | st.lists(st.lists(NUMBERS), max_size=3)}
)

PREDICT = PredictMessage(
    batch=1,
    reply_to="headrace:replies:r",
    model="m",
    version="v",
    calls=[Call(1, 0.0, 1.0)],
    rows=[[1.0, "a", None, True]],
)

SENT: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        PredictMessage,
        batch=st.integers(0, 2**53),
        reply_to=TEXTS.map(keys.replies),
        model=TEXTS,
        version=TEXTS,
        calls=CALLS,
        rows=ROWS | st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=3).map(packed),
        probe=st.booleans(),
    ),
    st.builds(RunJobsMessage, jobs=st.lists(TEXTS, max_size=3)),
    st.builds(ShadowMessage, model=TEXTS, version=TEXTS, primary=TEXTS, rows=ROWS, predictions=st.lists(VALUES)),
    st.builds(
        BatchReply,
        batch=st.integers(0, 2**53),
        started_at=TIMES,
        compute_seconds=st.floats(0, 1e6),
        results=st.lists(RESULTS, max_size=3),
    ),
)


@fuzzed(100)
@given(SENT)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    arrived = type(message).from_json(message.to_json())

    assert repr(arrived) == repr(message), "also -0.0, and 1 where it is not True"
    assert arrived == message


@fuzzed(100)
@given(
    st.sampled_from([*MESSAGES.values(), BatchReply]),
    st.binary(max_size=200) | st.text(max_size=200) | changed(json.loads(PREDICT.to_json())).map(json.dumps),
)
def test_a_payload_is_a_message_or_a_value_error(of: type[Message], payload: str | bytes) -> None:
    check_payload(of, payload)
