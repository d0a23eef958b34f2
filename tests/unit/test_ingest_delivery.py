"""Documents are acknowledged in order, only when nobody needs them, and all of them in the end."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from quietbeam.ingest.documents.delivery import AckQueue, Pending, Retained


def test_releasing_too_often_is_an_error() -> None:
    pending = AckQueue().deliver(0, b"1")
    pending.release()
    with pytest.raises(RuntimeError, match="released too often"):
        pending.release()


def test_nobody_can_need_a_document_that_may_be_acknowledged() -> None:
    pending = AckQueue().deliver(0, b"1")
    pending.release()
    with pytest.raises(RuntimeError, match="after its last release"):
        pending.retain()


def test_documents_wait_for_those_before_them() -> None:
    queue = AckQueue()
    first, second = queue.deliver(0, b"1"), queue.deliver(0, b"2")
    second.release()
    assert queue.pop_done() == [] and len(queue) == 2
    first.release()
    assert queue.pop_done() == [first, second] and not len(queue)


def test_a_datum_waits_for_every_event_that_names_it() -> None:
    queue = AckQueue()
    datums, first, second = (queue.deliver(0, token) for token in (b"d", b"1", b"2"))
    datums.follow(first)
    datums.follow(second)
    datums.release()
    second.release()
    assert not datums.done
    first.release()
    assert datums.done


def test_a_withdrawn_event_is_replaced_by_its_next_delivery() -> None:
    queue = AckQueue()
    datum, event = queue.deliver(0, b"d"), queue.deliver(0, b"1")
    datum.follow(event)
    datum.release()
    queue.withdraw(event)
    assert not datum.done, "its event is not stored"
    again = queue.deliver(0, b"1")
    datum.follow(again)
    again.release()
    assert queue.pop_done() == [datum, again]


class Deliveries(RuleBasedStateMachine):
    """Any interleaving of deliveries, users, errors on the way and acknowledgements."""

    users: Bundle[tuple[Pending, Retained]] = Bundle("users")

    def __init__(self) -> None:
        super().__init__()
        self.queue = AckQueue()
        self.sent = 0
        self.needed: dict[int, int] = {}
        self.follows: dict[int, set[int]] = {}
        self.delivered: list[Pending] = []
        self.acknowledged: list[Pending] = []

    @rule(target=users)
    def deliver_and_keep(self) -> tuple[Pending, Retained]:
        """A document comes; its row keeps it, its handler is done with it."""
        pending, row = self._deliver(), Retained()
        row.add(pending)
        pending.release()
        self.needed[id(pending)] = 1
        return pending, row

    @rule()
    def deliver_without_effect(self) -> None:
        pending = self._deliver()
        pending.release()
        self.needed[id(pending)] = 0

    @rule(target=users)
    def disk_error_on_the_way(self) -> tuple[Pending, Retained]:
        """The row keeps a document whose handling failed; it comes again at once, and is kept again."""
        failed, row = self._deliver(), Retained()
        row.add(failed)
        self.queue.withdraw(failed)
        self.delivered.pop()
        again = self._deliver()
        row.add(again)
        again.release()
        self.needed[id(again)] = 1
        return again, row

    @rule(target=users, kept=users)
    def keep_it_elsewhere(self, kept: tuple[Pending, Retained]) -> tuple[Pending, Retained]:
        pending, _ = kept
        if not self.needed[id(pending)]:
            return multiple()  # type: ignore[return-value]
        other = Retained()
        other.add(pending)
        self.needed[id(pending)] += 1
        return pending, other

    @rule(kept=consumes(users))
    def row_is_written(self, kept: tuple[Pending, Retained]) -> None:
        pending, row = kept
        if len(row):
            row.release()
            self.needed[id(pending)] -= 1

    @rule(kept=consumes(users), event=users)
    def part_waits_for_its_event(self, kept: tuple[Pending, Retained], event: tuple[Pending, Retained]) -> None:
        pending, row = kept
        if len(row):
            row.release(follow=event[0])
            self.needed[id(pending)] -= 1
            if event[0] is not pending:
                self.follows.setdefault(id(pending), set()).add(id(event[0]))

    @rule()
    def acknowledge(self) -> None:
        for pending in self.queue.pop_done():
            assert self.needed[id(pending)] == 0
            assert not any(self.needed[other] for other in self.follows.get(id(pending), ()))
            self.acknowledged.append(pending)

    @invariant()
    def in_order_and_none_twice(self) -> None:
        assert self.acknowledged == self.delivered[: len(self.acknowledged)]
        assert len(self.queue) == len(self.delivered) - len(self.acknowledged)

    @invariant()
    def the_count_is_right(self) -> None:
        for pending in self.delivered:
            assert pending.stored == (self.needed[id(pending)] == 0)

    def teardown(self) -> None:
        for pending in self.delivered:
            for _ in range(self.needed[id(pending)]):
                pending.release()
            self.needed[id(pending)] = 0
        self.acknowledge()
        assert self.acknowledged == self.delivered and not len(self.queue)

    def _deliver(self) -> Pending:
        self.sent += 1
        pending = self.queue.deliver(0, str(self.sent).encode())
        self.delivered.append(pending)
        return pending


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, derandomize=True)
