"""A message of each kind that gateways send to workers."""

from shared.queue.contract import Call, Message, PredictMessage, RunJobsMessage, ShadowMessage

EXAMPLES: list[Message] = [
    PredictMessage(
        batch=1,
        reply_to="headrace:replies:r",
        model="m",
        version="v",
        calls=[Call(1, 0.0, 1.0)],
        rows=[[1.0, "Straße"]],
    ),
    RunJobsMessage(jobs=["a", "b"]),
    ShadowMessage(model="m", version="v2", primary="v1", rows=[[1.0, None]], predictions=["Straße"]),
]
