"""Answers that are kept, where two processes are sent the same request at once."""

from pathlib import Path

import pytest
from tallybook.application.metering import Metering
from tallybook.application.server.answers import Answer
from tallybook.application.server.idempotency import IdempotencyKey, KeptAnswers
from tallybook.application.server.refusals import Refusal

KEY = IdempotencyKey("owner", "key", b"the same request")
ANSWER = Answer(200, b"{}")


def test_who_is_refused_meanwhile_takes_nothing_away(tmp_path: Path) -> None:
    """The answer of who did it stays, so that the request isn't done again later."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Metering.open(url) as one, Metering.open(url) as other:
        answers, others = KeptAnswers(one.keeper()), KeptAnswers(other.keeper())

        def done(was_begun: bool) -> Answer:
            assert not was_begun
            return ANSWER

        def done_first(was_begun: bool) -> Answer:
            """The request came to another process too, which is done with it before this one is."""
            assert was_begun
            answers_row = answers.row(KEY, ANSWER, "req_1", 1)
            one.keeper().change(put=[answers_row])
            raise Refusal(409, "Try again later.")

        one.keeper().change(add=[answers.row(KEY, Answer(0, b""), "req_1", 1)])  # begun
        with pytest.raises(Refusal):
            others.once(KEY, "req_2", 2, done_first)
        again = others.once(KEY, "req_3", 3, done)
        assert (again.status, again.headers["Original-Request"]) == (200, "req_1")
