-- How far each topic has been read. The rows change in the transaction that publishes what was read, so they are the
-- truth: whatever is killed, a record is in the zones if and only if it lies before its partition's next offset.
CREATE TABLE governance.stream_offsets (
    topic text NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    run_id text NOT NULL,
    advanced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE governance.stream_offsets IS 'How far each partition of each topic has been published. No PII.';
COMMENT ON COLUMN governance.stream_offsets.topic IS 'Kafka topic.';
COMMENT ON COLUMN governance.stream_offsets.partition IS 'Partition of the topic.';
COMMENT ON COLUMN governance.stream_offsets.next_offset IS 'First offset that is not in the zones yet.';
COMMENT ON COLUMN governance.stream_offsets.run_id IS 'Run that read up to it.';
COMMENT ON COLUMN governance.stream_offsets.advanced_at IS 'When the transaction that published it began.';
GRANT SELECT, INSERT, UPDATE ON governance.stream_offsets TO privacy_pipeline;
GRANT SELECT ON governance.stream_offsets TO privacy_compliance;

CREATE TABLE governance.streams (
    topic text PRIMARY KEY,
    complete_until timestamptz NOT NULL
);
COMMENT ON TABLE governance.streams IS 'Up to which time each topic has been read to its end. No PII.';
COMMENT ON COLUMN governance.streams.topic IS 'Kafka topic.';
COMMENT ON COLUMN governance.streams.complete_until IS
    'Everything that had been sent by this time is published; windows that ended long enough before it are final.';
GRANT SELECT, INSERT, UPDATE ON governance.streams TO privacy_pipeline;
GRANT SELECT ON governance.streams TO privacy_compliance;
