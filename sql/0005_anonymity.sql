-- What analysts read in the anonymized zone is granted column by column when a table is released: what is left of
-- identifiers (hashes, subnets, suffixes) is for privacy_linkage only. Tables released before this show nothing
-- until they are released again.
ALTER DEFAULT PRIVILEGES FOR ROLE privacy_pipeline IN SCHEMA anonymized REVOKE SELECT ON TABLES FROM privacy_analyst;
REVOKE SELECT ON ALL TABLES IN SCHEMA anonymized FROM privacy_analyst;

-- What each release of a table with a privacy model was made to satisfy, what that cost, and what was measured.
CREATE TABLE governance.anonymity_releases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    released_at timestamptz NOT NULL DEFAULT now(),
    run_id text NOT NULL,
    target text NOT NULL,
    recoding text NOT NULL,
    requirements jsonb NOT NULL,
    levels jsonb NOT NULL,
    loss double precision NOT NULL,
    column_losses jsonb NOT NULL,
    records bigint NOT NULL,
    suppressed bigint NOT NULL,
    classes bigint NOT NULL,
    measured jsonb NOT NULL,
    exposed_by_intersection bigint
);
CREATE INDEX ON governance.anonymity_releases (target, id);
COMMENT ON TABLE governance.anonymity_releases IS 'The generalization, loss and measured anonymity of every release of a table with a privacy model. No PII.';
COMMENT ON COLUMN governance.anonymity_releases.id IS 'Order of release.';
COMMENT ON COLUMN governance.anonymity_releases.released_at IS 'When it was published.';
COMMENT ON COLUMN governance.anonymity_releases.run_id IS 'Dagster run.';
COMMENT ON COLUMN governance.anonymity_releases.target IS 'Table released.';
COMMENT ON COLUMN governance.anonymity_releases.recoding IS 'global, local, or fixed when the policy left no level open.';
COMMENT ON COLUMN governance.anonymity_releases.requirements IS 'k, and l and t of each sensitive column, as the policy demands.';
COMMENT ON COLUMN governance.anonymity_releases.levels IS 'Quasi-identifier to the level it was generalized to; under local recoding the share of records at each level.';
COMMENT ON COLUMN governance.anonymity_releases.loss IS 'Mean normalized certainty penalty over records and quasi-identifiers, 0 to 1; suppressed cells count 1.';
COMMENT ON COLUMN governance.anonymity_releases.column_losses IS 'The same for each quasi-identifier.';
COMMENT ON COLUMN governance.anonymity_releases.records IS 'Records considered.';
COMMENT ON COLUMN governance.anonymity_releases.suppressed IS 'Records left out.';
COMMENT ON COLUMN governance.anonymity_releases.classes IS 'Equivalence classes published.';
COMMENT ON COLUMN governance.anonymity_releases.measured IS 'k, l and t as recomputed on the staged rows.';
COMMENT ON COLUMN governance.anonymity_releases.exposed_by_intersection IS 'People whom this release and the one before together place in a group smaller than k.';

GRANT SELECT, INSERT ON governance.anonymity_releases TO privacy_pipeline;
GRANT SELECT ON governance.anonymity_releases TO privacy_compliance;
