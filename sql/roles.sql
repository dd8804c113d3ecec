-- The groups of the platform: roles that cannot log in and carry all grants. Roles belong to the server, not to a
-- database, so this file is run again whenever the platform sets itself up, and does nothing when they exist.
DO $roles$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'privacy_platform_owner', 'privacy_pipeline', 'privacy_compliance', 'privacy_analyst', 'privacy_linkage',
        'privacy_dashboard'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    -- Migrations run as the owner, whoever administers the server; it governs what the pipeline creates.
    IF NOT pg_has_role('privacy_platform_owner', 'privacy_pipeline', 'USAGE') THEN
        GRANT privacy_pipeline TO privacy_platform_owner;
    END IF;
    -- Whoever may link records reads all that analysts read, and the columns kept from them.
    IF NOT pg_has_role('privacy_linkage', 'privacy_analyst', 'USAGE') THEN
        GRANT privacy_analyst TO privacy_linkage;
    END IF;
    -- SET ROLE needs a membership of its own: administering a role (CREATEROLE, PostgreSQL 16 and later) is not one.
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT privacy_platform_owner TO %I', current_user);
    END IF;
END
$roles$;

COMMENT ON ROLE privacy_platform_owner IS 'Owns the schemas, the vault and the governance tables; nobody logs in as it.';
COMMENT ON ROLE privacy_pipeline IS 'Runs: creates and owns the tables of the zones, seals, publishes, appends to governance.';
COMMENT ON ROLE privacy_compliance IS 'Compliance officers: read raw, vault and governance; write nothing but audit entries.';
COMMENT ON ROLE privacy_analyst IS 'Analysts: read anonymized, but for what is left of identifiers, and analytics.';
COMMENT ON ROLE privacy_linkage IS 'Analysts who link records: read the hashes, subnets and suffixes of anonymized too.';
COMMENT ON ROLE privacy_dashboard IS 'Dashboards: read analytics.';
