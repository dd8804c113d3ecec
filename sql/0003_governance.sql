-- Lineage, privacy budget and the audit log.
CREATE TABLE governance.data_lineage (
    lineage_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    source text NOT NULL,
    target text NOT NULL,
    transformation text NOT NULL,
    records_in bigint NOT NULL CHECK (records_in >= 0),
    records_out bigint NOT NULL CHECK (records_out >= 0),
    run_id text NOT NULL,
    status text NOT NULL,
    column_lineage jsonb NOT NULL CHECK (jsonb_typeof(column_lineage) = 'object')
);
CREATE INDEX data_lineage_target ON governance.data_lineage (target, lineage_id);
COMMENT ON TABLE governance.data_lineage IS 'One row an arrow: what was made from what, by which run.';
COMMENT ON COLUMN governance.data_lineage.lineage_id IS 'Number of the row.';
COMMENT ON COLUMN governance.data_lineage.recorded_at IS 'When the transaction that published the target began.';
COMMENT ON COLUMN governance.data_lineage.source IS 'File pattern, topic or table read.';
COMMENT ON COLUMN governance.data_lineage.target IS 'Table written.';
COMMENT ON COLUMN governance.data_lineage.transformation IS 'What was done, in words or as the fingerprint of the policy.';
COMMENT ON COLUMN governance.data_lineage.records_in IS 'Records read.';
COMMENT ON COLUMN governance.data_lineage.records_out IS 'Records written.';
COMMENT ON COLUMN governance.data_lineage.run_id IS 'Run that did it.';
COMMENT ON COLUMN governance.data_lineage.status IS 'How it ended.';
COMMENT ON COLUMN governance.data_lineage.column_lineage IS 'Column of the target to the columns of the source it was made from, and the technique.';
GRANT SELECT, INSERT ON governance.data_lineage TO privacy_pipeline;
GRANT SELECT ON governance.data_lineage TO privacy_compliance;

CREATE TABLE governance.privacy_budget (
    spend_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    privacy_unit text NOT NULL,
    epsilon double precision NOT NULL CHECK (epsilon >= 0 AND epsilon < 'infinity'),
    delta double precision NOT NULL CHECK (delta >= 0 AND delta < 1),
    mechanism text NOT NULL,
    fingerprint text NOT NULL,
    run_id text NOT NULL,
    spent_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX privacy_budget_dataset ON governance.privacy_budget (dataset, privacy_unit);
COMMENT ON TABLE governance.privacy_budget IS 'Differential privacy spent, one row a release.';
COMMENT ON COLUMN governance.privacy_budget.spend_id IS 'Number of the row.';
COMMENT ON COLUMN governance.privacy_budget.dataset IS 'Dataset whose subjects paid.';
COMMENT ON COLUMN governance.privacy_budget.privacy_unit IS 'What is protected: the subject, or the subject within a day.';
COMMENT ON COLUMN governance.privacy_budget.epsilon IS 'Epsilon spent.';
COMMENT ON COLUMN governance.privacy_budget.delta IS 'Delta spent.';
COMMENT ON COLUMN governance.privacy_budget.mechanism IS 'Mechanism that spent it.';
COMMENT ON COLUMN governance.privacy_budget.fingerprint IS 'Digest of the question and the data it was asked of.';
COMMENT ON COLUMN governance.privacy_budget.run_id IS 'Run that spent it.';
COMMENT ON COLUMN governance.privacy_budget.spent_at IS 'When the transaction that spent it began.';
GRANT SELECT, INSERT ON governance.privacy_budget TO privacy_pipeline;
GRANT SELECT ON governance.privacy_budget TO privacy_compliance;

-- The audit log: append-only and hash-chained. Writers give the six columns that are theirs to say; the trigger
-- gives the number, the time, the session's login and the chain.
CREATE TABLE governance.privacy_audit_log (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    dataset text,
    subject_table text,
    run_id text,
    outcome text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE governance.privacy_audit_log IS
    'What was done to personal data and by whom. Append-only; each row carries the hash of the one before.';
COMMENT ON COLUMN governance.privacy_audit_log.seq IS 'Number of the entry, without gaps, from 1.';
COMMENT ON COLUMN governance.privacy_audit_log.at IS 'When the entry was written.';
COMMENT ON COLUMN governance.privacy_audit_log.actor IS 'Database login of the session that wrote it.';
COMMENT ON COLUMN governance.privacy_audit_log.action IS 'What was done: publish, quarantine, key_use, …';
COMMENT ON COLUMN governance.privacy_audit_log.dataset IS 'Dataset it was done to.';
COMMENT ON COLUMN governance.privacy_audit_log.subject_table IS 'Table it was done to.';
COMMENT ON COLUMN governance.privacy_audit_log.run_id IS 'Run that did it.';
COMMENT ON COLUMN governance.privacy_audit_log.outcome IS 'How it ended: succeeded, failed, refused.';
COMMENT ON COLUMN governance.privacy_audit_log.details IS 'Counts and names; never values of records, keys or passwords.';
COMMENT ON COLUMN governance.privacy_audit_log.prev_hash IS 'Hash of the entry before; zeros before the first.';
COMMENT ON COLUMN governance.privacy_audit_log.hash IS 'SHA-256 over every other column, see governance.audit_hash.';

CREATE TABLE governance.audit_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
COMMENT ON TABLE governance.audit_head IS 'The last entry of the audit log, so that a removed tail is found.';
COMMENT ON COLUMN governance.audit_head.only_row IS 'True: there is one row.';
COMMENT ON COLUMN governance.audit_head.seq IS 'Number of the last entry.';
COMMENT ON COLUMN governance.audit_head.hash IS 'Hash of the last entry.';
INSERT INTO governance.audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- A field is '-' when null, else its length in UTF-8 bytes, ':' and the text: no two rows serialise alike.
CREATE FUNCTION governance.audit_field(value text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$ SELECT coalesce(octet_length(convert_to(value, 'UTF8'))::text || ':' || value, '-') $$;
COMMENT ON FUNCTION governance.audit_field(text) IS 'Unambiguous serialisation of one column of the audit log.';

CREATE FUNCTION governance.audit_hash(entry governance.privacy_audit_log) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$
    SELECT sha256(convert_to(
        'privacy_platform.audit.v1|'
        || governance.audit_field(entry.seq::text)
        || governance.audit_field(to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || governance.audit_field(entry.actor)
        || governance.audit_field(entry.action)
        || governance.audit_field(entry.dataset)
        || governance.audit_field(entry.subject_table)
        || governance.audit_field(entry.run_id)
        || governance.audit_field(entry.outcome)
        || governance.audit_field(entry.details::text)
        || governance.audit_field(encode(entry.prev_hash, 'hex')),
        'UTF8'))
$$;
COMMENT ON FUNCTION governance.audit_hash(governance.privacy_audit_log) IS 'The hash an entry of the audit log must have.';

-- Writers wait for each other on the one row of audit_head until they commit, which is what keeps the numbers
-- without gaps. A row lock, not an advisory lock: any login could take the latter and stop all audit writing.
CREATE FUNCTION governance.audit_append() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
DECLARE
    head governance.audit_head;
BEGIN
    SELECT * INTO STRICT head FROM governance.audit_head FOR UPDATE;
    NEW.seq := head.seq + 1;
    NEW.at := clock_timestamp();
    NEW.actor := session_user;
    NEW.prev_hash := head.hash;
    NEW.hash := governance.audit_hash(NEW);
    UPDATE governance.audit_head SET seq = NEW.seq, hash = NEW.hash;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION governance.audit_append() IS 'Numbers, dates and chains a new entry of the audit log.';

CREATE FUNCTION governance.audit_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION governance.audit_refuse() IS 'Refuses to change what the audit log holds.';

CREATE TRIGGER audit_append BEFORE INSERT ON governance.privacy_audit_log
    FOR EACH ROW EXECUTE FUNCTION governance.audit_append();
CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON governance.privacy_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION governance.audit_refuse();
-- ALWAYS: session_replication_role does not switch them off.
ALTER TABLE governance.privacy_audit_log ENABLE ALWAYS TRIGGER audit_append;
ALTER TABLE governance.privacy_audit_log ENABLE ALWAYS TRIGGER audit_refuse;

GRANT INSERT (action, dataset, subject_table, run_id, outcome, details)
    ON governance.privacy_audit_log TO privacy_pipeline, privacy_compliance;
GRANT SELECT ON governance.privacy_audit_log, governance.audit_head TO privacy_pipeline, privacy_compliance;
GRANT EXECUTE ON FUNCTION governance.audit_hash(governance.privacy_audit_log), governance.audit_field(text)
    TO privacy_pipeline, privacy_compliance;
