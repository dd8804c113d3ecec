-- The vault, the quarantine, and the record of which splits of a running release have been written.
CREATE TABLE vault.subjects (
    user_token text PRIMARY KEY CHECK (octet_length(user_token) = 36),
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    sealed_id bytea NOT NULL,
    key_version integer NOT NULL CHECK (key_version > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE vault.subjects IS
    'One row a data subject. PII: pseudonymous. Deleting a row is erasure: without the salt the sealed records of the subject are noise.';
COMMENT ON COLUMN vault.subjects.user_token IS 'PII: pseudonymous. tok_ and 32 hex digits, keyed from the subject''s id.';
COMMENT ON COLUMN vault.subjects.salt IS 'PII: pseudonymous. 32 random bytes; with the sealing key they give the data key of the subject.';
COMMENT ON COLUMN vault.subjects.sealed_id IS 'PII: sealed. The subject''s own id, to reverse the token; gone with the row.';
COMMENT ON COLUMN vault.subjects.key_version IS 'Version of the sealing key that the data key is derived from.';
COMMENT ON COLUMN vault.subjects.created_at IS 'When the subject was first seen.';
GRANT SELECT, INSERT ON vault.subjects TO privacy_pipeline;
GRANT SELECT ON vault.subjects TO privacy_compliance;

CREATE TABLE raw.quarantine (
    dataset text NOT NULL,
    stage text NOT NULL,
    source text NOT NULL,
    position text NOT NULL,
    error text NOT NULL,
    salt bytea,
    sealed bytea,
    key_version integer CHECK (key_version > 0),
    run_id text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quarantine_run ON raw.quarantine (dataset, run_id);
COMMENT ON TABLE raw.quarantine IS 'Records that could not be read or did not fit their policy. PII: sealed.';
COMMENT ON COLUMN raw.quarantine.dataset IS 'Dataset whose policy refused the record.';
COMMENT ON COLUMN raw.quarantine.stage IS 'Stage of the run that refused it.';
COMMENT ON COLUMN raw.quarantine.source IS 'File or topic it came from.';
COMMENT ON COLUMN raw.quarantine.position IS 'Line of the file, offset in the topic, or key of the raw record.';
COMMENT ON COLUMN raw.quarantine.error IS 'Why it was refused; names fields, never values.';
COMMENT ON COLUMN raw.quarantine.salt IS 'PII: pseudonymous. 32 random bytes of this record; with the sealing key they give its data key.';
COMMENT ON COLUMN raw.quarantine.sealed IS 'PII: sealed. The record as it landed; null where the raw zone holds it.';
COMMENT ON COLUMN raw.quarantine.key_version IS 'Version of the sealing key that the data key is derived from.';
COMMENT ON COLUMN raw.quarantine.run_id IS 'Run that refused it.';
COMMENT ON COLUMN raw.quarantine.quarantined_at IS 'When it was refused.';
GRANT SELECT, INSERT, DELETE ON raw.quarantine TO privacy_pipeline;
GRANT SELECT ON raw.quarantine TO privacy_compliance;

CREATE TABLE staging.commits (
    stage text NOT NULL,
    split integer NOT NULL,
    statistics jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (stage, split)
);
COMMENT ON TABLE staging.commits IS
    'Splits of running stages whose rows are in their staging table: written in the same transaction as the rows, so a retried task never doubles them.';
COMMENT ON COLUMN staging.commits.stage IS 'Unique name of the running stage.';
COMMENT ON COLUMN staging.commits.split IS 'Number of the split in the stage.';
COMMENT ON COLUMN staging.commits.statistics IS 'Counts the task reports; never values.';
GRANT SELECT, INSERT, UPDATE, DELETE ON staging.commits TO privacy_pipeline;
