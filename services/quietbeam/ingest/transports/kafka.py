"""Kafka, as bluesky-kafka and nslsii publish. Durable; the client library is the extra ``quietbeam[kafka]``."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgpack
import structlog

from quietbeam.core.errors import InputError

from .kafka_offsets import PartitionOffsets
from .source import Probe, ReceivedDocument

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, TopicPartition

log = structlog.get_logger()

_DISCOVER_S = 30.0
"""Interval of the search for new partitions, and (`_RETRY_S`) for the first ones."""
_RETRY_S = 5.0
_COMMIT_S = 0.5
_LAST_COMMIT_S = 2.0
_CLOSE_S = 4.0
_STARTS = ("latest", "earliest")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAddress:
    """A URL ``kafka://BROKER,BROKER/TOPIC?group=NAME&start=latest`` in parts."""

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
            Not such a URL.
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
        False for a listener: the group's offsets are neither read nor written.
    """

    name = "kafka"

    def __init__(self, address: KafkaAddress, options: Mapping[str, str], *, commit: bool = True) -> None:
        self.address, self._commits = address, commit
        self._consumer = _consumer(address, options, self._on_error, self._on_commit)
        self._partitions: dict[int, PartitionOffsets] = {}
        self._discover_at = self._commit_at = 0.0
        self._committing = False
        self._was_absent = False
        self._reported: set[str] = set()  # errors that were logged since the last documents

    def receive(self, timeout_s: float) -> list[ReceivedDocument]:
        """Return up to a batch of documents."""
        if time.monotonic() >= self._discover_at:
            self._discover_partitions()
        self._commit()
        documents = []
        for message in self._consumer.consume(512, timeout_s):
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None:
                self._on_error(error)
            elif partition is not None and offset is not None and self._partitions[partition].deliver(offset):
                name, payload = split(message.value() or b"")
                token = b"%d:%d:%d" % (partition, self._partitions[partition].generation, offset)
                documents.append(ReceivedDocument(token=token, name=name, run="", payload=payload))
        if documents and self._reported:
            log.info("kafka_recovered", topic=self.address.topic)
            self._reported.clear()
        return documents

    def acknowledge(self, tokens: Sequence[bytes]) -> None:
        """Acknowledge documents; their offsets are committed twice a second and in :meth:`close`."""
        for token in tokens:
            partition, generation, offset = map(int, token.split(b":"))
            offsets = self._partitions[partition]
            if generation == offsets.generation:
                offsets.acknowledge(offset)
        self._commit()

    def reset(self) -> None:
        """Go back to the first message of each partition that is not acknowledged."""
        from confluent_kafka import TopicPartition

        self._consumer.assign(
            [TopicPartition(self.address.topic, n, offsets.rewind()) for n, offsets in self._partitions.items()]
        )

    def close(self) -> None:
        """Commit what is acknowledged and close the connections."""
        self._commit_at = 0.0
        self._commit()
        self._consumer.unassign()
        deadline = time.monotonic() + _LAST_COMMIT_S
        while self._committing and time.monotonic() < deadline:
            self._consumer.poll(0.05)
        _close(self._consumer)

    def _discover_partitions(self) -> None:
        """Read new partitions too: at the start all of them."""
        from confluent_kafka import KafkaException, TopicPartition

        self._discover_at = time.monotonic() + (_DISCOVER_S if self._partitions else _RETRY_S)
        topic = self.address.topic
        try:
            found = self._consumer.list_topics(topic, timeout=1.0).topics[topic]
            if found.error is not None:
                self._was_absent |= found.error.name() in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC")
                self._on_error(found.error)
                return
            new = [TopicPartition(topic, n) for n in found.partitions if n not in self._partitions]
            starts = {part.partition: self._start(part) for part in self._stored(new)}
        except KafkaException as error:
            self._on_error(error.args[0])
            return
        if starts:
            self._partitions |= {n: PartitionOffsets(start) for n, start in starts.items()}
            self._consumer.assign([TopicPartition(topic, n, offsets.next) for n, offsets in self._partitions.items()])
            log.info("kafka_connected", topic=topic, group=self.address.group, partitions=len(self._partitions))
            self._reported.clear()

    def _stored(self, new: list[TopicPartition]) -> list[TopicPartition]:
        return self._consumer.committed(new, timeout=2.0) if new and self._commits else new

    def _start(self, part: TopicPartition) -> int:
        if part.offset >= 0:
            return int(part.offset)
        ends = self._consumer.get_watermark_offsets(part, timeout=2.0)
        assert ends is not None
        is_new = self._was_absent or bool(self._partitions)  # it appeared while this process ran
        return ends[1 if self.address.start == "latest" and not is_new else 0]

    def _commit(self) -> None:
        """Commit new offsets. For a new group also where it began, so that a restart continues there."""
        from confluent_kafka import KafkaException, TopicPartition

        if not self._commits or self._committing or time.monotonic() < self._commit_at:
            return
        self._commit_at = time.monotonic() + _COMMIT_S
        uncommitted = [
            TopicPartition(self.address.topic, n, offsets.position)
            for n, offsets in self._partitions.items()
            if offsets.position != offsets.committed
        ]
        try:
            if uncommitted:
                self._consumer.commit(offsets=uncommitted)
                self._committing = True
        except KafkaException as error:
            self._on_error(error.args[0])

    def _on_commit(self, error: KafkaError | None, parts: list[TopicPartition]) -> None:
        self._committing = False
        if error is not None:
            self._on_error(error)
            return
        for part in parts:
            if part.partition in self._partitions:
                self._partitions[part.partition].committed = part.offset

    def _on_error(self, error: KafkaError) -> None:
        if error.name() not in self._reported:
            log.warning("kafka_error", brokers=self.address.brokers, topic=self.address.topic, error=error.str())
        self._reported.add(error.name())


def split(value: bytes) -> tuple[str, bytes]:
    """Return name and undecoded document of a message; ('', message) for one that is not a document."""
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

    errors: list[str] = []
    consumer = _consumer(address, options, lambda error: errors.append(error.str()))
    try:
        found = consumer.list_topics(address.topic, timeout=timeout_s).topics[address.topic]
    except KafkaException as error:
        consumer.poll(0)
        return Probe(
            verdict="failure",
            found=errors[0] if errors else error.args[0].str(),
            remedy="start the brokers, or correct ingest.sources and ingest.kafka; documents wait in Kafka meanwhile",
        )
    finally:
        _close(consumer)
    if found.error is not None:
        return Probe(
            verdict="warning",
            found=f"the brokers answer; {found.error.str()}",
            remedy="correct the topic in ingest.sources, unless its first document is still to come",
        )
    n = len(found.partitions)
    return Probe(verdict="ok", found=f"the topic is there, {n} partition{'' if n == 1 else 's'}")


def _close(consumer: Consumer) -> None:
    """Close, but wait a few seconds only: librdkafka may wait minutes for unreachable brokers."""
    thread = threading.Thread(target=consumer.close, name="quietbeam-kafka-close", daemon=True)
    thread.start()
    thread.join(_CLOSE_S)
    if thread.is_alive():
        log.warning("kafka_close_timeout", reason="brokers unreachable; uncommitted documents will be delivered again")


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
        "auto.offset.reset": "earliest",  # only when the brokers have dropped the next message
        "session.timeout.ms": 6000,  # nobody joins the group: how long a commit waits for unreachable brokers
        "log_level": 2,
        "error_cb": on_error,
        **({"on_commit": on_commit} if on_commit else {}),
    }
    try:
        return Consumer({**options, **own})
    except KafkaException as error:
        raise InputError(f"ingest.kafka: {error.args[0].str()}", remedy="correct that setting") from error
