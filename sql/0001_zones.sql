-- The zones are schemas. Runs (privacy_pipeline) create the tables in them; who may read such a table follows from
-- its zone by default privileges, so no table is ever readable because somebody forgot to restrict it.
CREATE SCHEMA raw;
CREATE SCHEMA anonymized;
CREATE SCHEMA analytics;
CREATE SCHEMA vault;
CREATE SCHEMA staging;

COMMENT ON SCHEMA raw IS 'Sealed records as they landed. PII: sealed and pseudonymous. Compliance only.';
COMMENT ON SCHEMA anonymized IS 'Records after every check of their policy has passed. Analysts.';
COMMENT ON SCHEMA analytics IS 'Aggregates over groups of people. Analysts and dashboards.';
COMMENT ON SCHEMA governance IS 'What happened: audit log, lineage, privacy budget. Compliance only.';
COMMENT ON SCHEMA vault IS 'Salts that unseal raw records and reverse tokens. PII. Compliance only.';
COMMENT ON SCHEMA staging IS 'Tables of running releases, before their checks have passed. Nobody but the run.';

GRANT USAGE, CREATE ON SCHEMA raw, anonymized, analytics, staging TO privacy_pipeline;
GRANT USAGE ON SCHEMA vault, governance TO privacy_pipeline;
GRANT USAGE ON SCHEMA raw, vault, governance TO privacy_compliance;
GRANT USAGE ON SCHEMA anonymized, analytics TO privacy_analyst;
GRANT USAGE ON SCHEMA analytics TO privacy_dashboard;

ALTER DEFAULT PRIVILEGES FOR ROLE privacy_pipeline IN SCHEMA raw GRANT SELECT ON TABLES TO privacy_compliance;
ALTER DEFAULT PRIVILEGES FOR ROLE privacy_pipeline IN SCHEMA anonymized GRANT SELECT ON TABLES TO privacy_analyst;
ALTER DEFAULT PRIVILEGES FOR ROLE privacy_pipeline IN SCHEMA analytics
    GRANT SELECT ON TABLES TO privacy_analyst, privacy_dashboard;
-- Functions are executable by everybody unless said otherwise.
ALTER DEFAULT PRIVILEGES FOR ROLE privacy_pipeline REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE privacy_platform_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
