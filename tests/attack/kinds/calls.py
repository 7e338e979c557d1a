"""Bodies of replies with bytes changed, cut and broken off: what comes is the right reply, or one that says that it is
not; and it never concerns another request."""

from __future__ import annotations

from random import Random

from tests.attack.ground import Ground
from tests.attack.kind import Ending, Kind
from tests.engines.test_wire_shapes import ALL
from tests.faults import Rule, Script, Step, fault_server
from tests.faults.asking import KINDS, ask, doubles, engine_for, is_right
from tests.faults.test_fuzz import STATUSES, scramble

QUESTIONS = 12
"""Of one server; every other one is answered by broken bytes."""


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    kind = KINDS[number % len(KINDS)]
    questions, shapes = doubles(QUESTIONS), [shape for shape in ALL if shape.engine == kind]
    rules = []
    for question in questions[::2]:
        shape = chance.choice(shapes)
        body = scramble(shape.body, chance) if chance.random() < 0.6 else shape.body
        cut = chance.randrange(len(body) + 1) if chance.random() < 0.5 else None
        step = Step(body=body.decode("latin-1"), content_type=shape.content_type, cut=cut,
                    ending=chance.choice(("clean", "abrupt", "reset")))
        rules.append(Rule(step, question=question))
    what = f"{len(rules)} broken replies of {QUESTIONS} to {kind}"
    with fault_server(Script(rules=tuple(rules))) as server:
        replies = {reply.request_id: reply for reply in ask(
            engine_for(server.url, kind, retries=0, concurrency=4), questions)}
    if set(replies) != set(questions):
        return Ending("bad", what, f"no reply to {sorted(set(questions) - set(replies))}")
    if wrong := [question for question in questions[1::2] if not is_right(replies[question])]:
        return Ending("bad", what, f"a broken reply concerned another request: {wrong[0]}: {replies[wrong[0]]}")
    if strange := [reply for reply in replies.values() if reply.status not in STATUSES]:
        return Ending("bad", what, f"a reply of no known status: {strange[0].status}")
    told = sum(reply.status != "complete" for reply in replies.values())
    return Ending("named" if told else "same", what, f"{told} of them say what they are")


KIND = Kind("calls", "replies with bytes changed, cut or broken off, six of each server", 350, _attack,
            needs_workspace=False)
