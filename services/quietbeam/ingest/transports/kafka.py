"""Kafka, as bluesky-kafka and nslsii publish: durable. The client library is the extra ``quietbeam[kafka]``."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgpack
import structlog

from quietbeam.core.errors import InputError

from .source import Probe, ReceivedDocument

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, TopicPartition

log = structlog.get_logger()

_LOOK_S = 30.0
_RETRY_S = 5.0
_COMMIT_S = 0.5
_LAST_COMMIT_S = 2.0
_LEAVE_S = 4.0
_STARTS = ("latest", "earliest")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """What a URL ``kafka://BROKER,BROKER/TOPIC?group=NAME&start=latest`` says."""

    brokers: str
    topic: str
    group: str = "quietbeam"
    start: str = "latest"

    @classmethod
    def parse(cls, url: str) -> KafkaAddress:
        """Read the URL.

        Raises
        ------
        InputError
            It is none.
        """
        where, _, query = url.partition("://")[2].partition("?")
        brokers, _, topic = where.partition("/")
        options = dict(parse_qsl(query, keep_blank_values=True))
        wrong = set(options) - {"group", "start"}
        if not brokers or not topic or "/" in topic or wrong or options.get("start", "latest") not in _STARTS:
            raise InputError(
                f"ingest.sources: {url!r} is not kafka://BROKER[:PORT],BROKER/TOPIC?group=NAME&start=latest "
                "(or start=earliest)"
            )
        return cls(brokers=brokers, topic=topic, **options)


class _Partition:
    """Where one partition of the topic is: what was delivered, and what of it is acknowledged."""

    def __init__(self, start: int) -> None:
        self.next = start
        self.committed: int | None = None
        self.log = 0
        self._open: deque[int] = deque()
        self._done: set[int] = set()

    def delivered(self, offset: int) -> bool:
        """Note a message; False when it has been acknowledged before."""
        if offset < self.next:  # the brokers lost the topic and began again
            self.log += 1
            self._open.clear()
            self._done.clear()
        self.next = offset + 1
        if offset in self._done:
            return False
        self._open.append(offset)
        return True

    def acknowledge(self, offset: int) -> None:
        if offset >= self.position:
            self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())

    @property
    def position(self) -> int:
        """The first message that is not acknowledged: what a group's offset means."""
        return self._open[0] if self._open else self.next

    def rewind(self) -> int:
        """Forget what was delivered and not acknowledged; return where to read again."""
        self.next = self.position
        self._done = {offset for offset in self._done if offset > self.next}
        self._open.clear()
        return self.next


class KafkaSource:
    """A topic of documents, ``msgpack([name, document])`` as bluesky-kafka writes them.

    One process reads all partitions; the group holds the offsets. An offset is committed when its message and all
    before it in the partition are acknowledged.

    Parameters
    ----------
    address
        Brokers, topic, group, and where a group begins that has no offsets yet.
    options
        More settings of librdkafka, such as ``security.protocol`` and ``sasl.password``.
    commit
        False: only listen; the group's offsets are neither read nor written.
    """

    name = "kafka"

    def __init__(self, address: KafkaAddress, options: Mapping[str, str], *, commit: bool = True) -> None:
        self.address, self._commits = address, commit
        self._consumer = _consumer(address, options, self._error, self._committed)
        self._partitions: dict[int, _Partition] = {}
        self._look_at = self._commit_at = 0.0
        self._in_flight = False
        self._troubles: set[str] = set()  # said once, until documents come again

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents."""
        if time.monotonic() >= self._look_at:
            self._look()
        self._commit()
        documents = []
        for message in self._consumer.consume(512, timeout_s):
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None:
                self._error(error)
            elif partition is not None and offset is not None and self._partitions[partition].delivered(offset):
                name, payload = split(message.value() or b"")
                token = b"%d:%d:%d" % (partition, self._partitions[partition].log, offset)
                documents.append(ReceivedDocument(token=token, name=name, run="", payload=payload))
        if documents and self._troubles:
            log.info("kafka_back", topic=self.address.topic)
            self._troubles.clear()
        return documents

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Count them; offsets are committed twice a second and at the end."""
        for token in tokens:
            partition, began, offset = map(int, token.split(b":"))
            known = self._partitions[partition]
            if began == known.log:
                known.acknowledge(offset)
        self._commit()

    def reset(self) -> None:
        """Go back to the first message of each partition that is not acknowledged."""
        from confluent_kafka import TopicPartition

        self._consumer.assign(
            [TopicPartition(self.address.topic, n, known.rewind()) for n, known in self._partitions.items()]
        )

    def close(self) -> None:
        """Commit what is acknowledged; leave."""
        self._commit_at = 0.0
        self._commit()
        self._consumer.unassign()
        deadline = time.monotonic() + _LAST_COMMIT_S
        while self._in_flight and time.monotonic() < deadline:
            self._consumer.poll(0.05)
        _leave(self._consumer)

    def _look(self) -> None:
        """Take in partitions that are new: at the start all of them."""
        from confluent_kafka import KafkaException, TopicPartition

        self._look_at = time.monotonic() + (_LOOK_S if self._partitions else _RETRY_S)
        topic = self.address.topic
        try:
            found = self._consumer.list_topics(topic, timeout=1.0).topics[topic]
            if found.error is not None:
                self._error(found.error)
                return
            new = [TopicPartition(topic, n) for n in found.partitions if n not in self._partitions]
            starts = {part.partition: self._start(part) for part in self._stored(new)}
        except KafkaException as error:
            self._error(error.args[0])
            return
        if starts:
            self._partitions |= {n: _Partition(start) for n, start in starts.items()}
            self._consumer.assign([TopicPartition(topic, n, known.next) for n, known in self._partitions.items()])
            log.info("kafka_connected", topic=topic, group=self.address.group, partitions=len(self._partitions))
            self._troubles.clear()

    def _stored(self, new: list[TopicPartition]) -> list[TopicPartition]:
        return self._consumer.committed(new, timeout=2.0) if new and self._commits else new

    def _start(self, part: TopicPartition) -> int:
        if part.offset >= 0:
            return int(part.offset)
        ends = self._consumer.get_watermark_offsets(part, timeout=2.0)
        assert ends is not None
        return ends[1 if self.address.start == "latest" and not self._partitions else 0]

    def _commit(self) -> None:
        """Commit what is new, the place where a new group began included: a restart goes on from there."""
        from confluent_kafka import KafkaException, TopicPartition

        if not self._commits or self._in_flight or time.monotonic() < self._commit_at:
            return
        self._commit_at = time.monotonic() + _COMMIT_S
        behind = [
            TopicPartition(self.address.topic, n, known.position)
            for n, known in self._partitions.items()
            if known.position != known.committed
        ]
        try:
            if behind:
                self._consumer.commit(offsets=behind)
                self._in_flight = True
        except KafkaException as error:
            self._error(error.args[0])

    def _committed(self, error: KafkaError | None, parts: list[TopicPartition]) -> None:
        self._in_flight = False
        if error is not None:
            self._error(error)
            return
        for part in parts:
            if part.partition in self._partitions:
                self._partitions[part.partition].committed = part.offset

    def _error(self, error: KafkaError) -> None:
        if error.name() not in self._troubles:
            log.warning("kafka_error", brokers=self.address.brokers, topic=self.address.topic, error=error.str())
        self._troubles.add(error.name())


def split(value: bytes) -> tuple[str, bytes]:
    """Return name and undecoded document of a message; garbage comes back whole, for the quarantine."""
    reader = msgpack.Unpacker(max_buffer_size=0)
    reader.feed(value)
    try:
        if reader.read_array_header() == 2:
            name = reader.unpack()
            if isinstance(name, str):
                return name, value[reader.tell() :]
    except (ValueError, msgpack.UnpackException):
        pass
    return "", value


def probe(address: KafkaAddress, options: Mapping[str, str], timeout_s: float = 3.0) -> Probe:
    """Look for the brokers and the topic."""
    from confluent_kafka import KafkaException

    said: list[str] = []
    consumer = _consumer(address, options, lambda error: said.append(error.str()))
    try:
        found = consumer.list_topics(address.topic, timeout=timeout_s).topics[address.topic]
    except KafkaException as error:
        consumer.poll(0)
        return Probe(
            verdict="failure",
            found=said[0] if said else error.args[0].str(),
            remedy="start the brokers, or correct ingest.sources and ingest.kafka; documents wait in Kafka meanwhile",
        )
    finally:
        _leave(consumer)
    if found.error is not None:
        return Probe(
            verdict="warning",
            found=f"the brokers answer; {found.error.str()}",
            remedy="correct the topic in ingest.sources, unless its first document is still to come",
        )
    n = len(found.partitions)
    return Probe(verdict="ok", found=f"the topic is there, {n} partition{'' if n == 1 else 's'}")


def _leave(consumer: Consumer) -> None:
    """Close, but wait only so long: librdkafka may wait for minutes for brokers that are away."""
    thread = threading.Thread(target=consumer.close, name="quietbeam-kafka-close", daemon=True)
    thread.start()
    thread.join(_LEAVE_S)
    if thread.is_alive():
        log.warning("kafka_left", reason="the brokers are away; what they do not know as acknowledged comes again")


def _consumer(address: KafkaAddress, options: Mapping[str, str], on_error: Any, on_commit: Any = None) -> Consumer:
    try:
        from confluent_kafka import Consumer, KafkaException
    except ImportError as error:
        raise InputError("kafka:// needs a client library", remedy="pip install 'quietbeam[kafka]'") from error
    own = {
        "bootstrap.servers": address.brokers,
        "group.id": address.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",  # only when the brokers have dropped what comes next
        "session.timeout.ms": 6000,  # nobody joins the group: how long a commit waits for brokers that are away
        "log_level": 2,
        "error_cb": on_error,
        **({"on_commit": on_commit} if on_commit else {}),
    }
    try:
        return Consumer({**options, **own})
    except KafkaException as error:
        raise InputError(f"ingest.kafka: {error.args[0].str()}", remedy="correct that setting") from error
