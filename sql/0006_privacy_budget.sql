-- The ledger of differential privacy, unused until now, learns what composition needs to know. It is append-only like the
-- audit log: what was spent cannot be taken back, by anybody.
ALTER TABLE governance.privacy_budget
    ALTER COLUMN spent_at SET DEFAULT clock_timestamp(),
    ADD CHECK (privacy_unit IN ('user', 'user_day')),
    ADD COLUMN target text NOT NULL,
    ADD COLUMN period date CHECK (period IS NULL OR privacy_unit = 'user_day'),
    ADD COLUMN rho double precision CHECK (rho >= 0 AND rho < 'infinity'),
    ADD COLUMN rho_delta double precision NOT NULL CHECK (rho_delta >= 0 AND rho_delta < 1),
    ADD COLUMN composition text NOT NULL CHECK (composition IN ('basic', 'zcdp')),
    ADD COLUMN total_epsilon double precision NOT NULL,
    ADD COLUMN total_delta double precision NOT NULL;
CREATE INDEX privacy_budget_target ON governance.privacy_budget (target, period, spend_id);
COMMENT ON TABLE governance.privacy_budget IS
    'Differential privacy spent: one row for a release, or for each day of one that protects users day by day. Append-only.';
COMMENT ON COLUMN governance.privacy_budget.privacy_unit IS
    'What is protected: user (everything of a data subject), or user_day (theirs within one UTC day).';
COMMENT ON COLUMN governance.privacy_budget.epsilon IS 'Epsilon spent, as the release alone was planned.';
COMMENT ON COLUMN governance.privacy_budget.delta IS 'Delta spent, as the release alone was planned.';
COMMENT ON COLUMN governance.privacy_budget.mechanism IS 'Mechanisms that spent it.';
COMMENT ON COLUMN governance.privacy_budget.fingerprint IS
    'Digest of the parameters and of which releases were read: the same again is answered by the release that stands.';
COMMENT ON COLUMN governance.privacy_budget.spent_at IS 'When the transaction that published spent it, by the clock of the server.';
COMMENT ON COLUMN governance.privacy_budget.target IS 'Table released.';
COMMENT ON COLUMN governance.privacy_budget.period IS
    'The day of the data, of a table that is released day by day; null of a release of the whole table, which spends on every day.';
COMMENT ON COLUMN governance.privacy_budget.rho IS 'Rho of zero-concentrated differential privacy spent; null when none is known.';
COMMENT ON COLUMN governance.privacy_budget.rho_delta IS 'Probability with which rho may fail: what thresholds on keys spend.';
COMMENT ON COLUMN governance.privacy_budget.composition IS
    'Which composition proved the smaller total: basic (epsilons add up) or zcdp (rhos do).';
COMMENT ON COLUMN governance.privacy_budget.total_epsilon IS
    'Epsilon of all releases of the account since its budget renewed, this one included, at total_delta.';
COMMENT ON COLUMN governance.privacy_budget.total_delta IS 'The delta of the budget.';

-- Runs wait here for each other, from the look at what is left until the commit of what they spend. A row and not an
-- advisory lock, which any login could take and keep.
CREATE TABLE governance.privacy_accounts (
    dataset text NOT NULL,
    privacy_unit text NOT NULL,
    PRIMARY KEY (dataset, privacy_unit)
);
COMMENT ON TABLE governance.privacy_accounts IS 'One row for each account of the privacy budget: what its spenders lock.';
COMMENT ON COLUMN governance.privacy_accounts.dataset IS 'Dataset whose subjects pay.';
COMMENT ON COLUMN governance.privacy_accounts.privacy_unit IS 'What is protected.';

CREATE FUNCTION governance.lock_account(paying text, unit text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    INSERT INTO governance.privacy_accounts VALUES (paying, unit) ON CONFLICT DO NOTHING;
    PERFORM FROM governance.privacy_accounts a WHERE a.dataset = paying AND a.privacy_unit = unit FOR UPDATE;
END
$$;
COMMENT ON FUNCTION governance.lock_account(text, text) IS 'Waits for other spenders of an account, and keeps them out until the commit.';
REVOKE EXECUTE ON FUNCTION governance.lock_account(text, text) FROM PUBLIC;

-- No spending beside the lock, whoever writes it, and none that is backdated.
CREATE FUNCTION governance.budget_append() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    PERFORM governance.lock_account(NEW.dataset, NEW.privacy_unit);
    NEW.spent_at := clock_timestamp();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION governance.budget_append() IS 'Locks the account and dates the spending.';
REVOKE EXECUTE ON FUNCTION governance.budget_append() FROM PUBLIC;

CREATE FUNCTION governance.budget_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$
BEGIN
    RAISE EXCEPTION 'the ledger of the privacy budget is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
COMMENT ON FUNCTION governance.budget_refuse() IS 'Refuses to change what was spent.';
REVOKE EXECUTE ON FUNCTION governance.budget_refuse() FROM PUBLIC;

CREATE TRIGGER budget_append BEFORE INSERT ON governance.privacy_budget
    FOR EACH ROW EXECUTE FUNCTION governance.budget_append();
CREATE TRIGGER budget_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON governance.privacy_budget
    FOR EACH STATEMENT EXECUTE FUNCTION governance.budget_refuse();
ALTER TABLE governance.privacy_budget ENABLE ALWAYS TRIGGER budget_append;
ALTER TABLE governance.privacy_budget ENABLE ALWAYS TRIGGER budget_refuse;

-- Canonne, Kamath and Steinke 2020, proposition 12: every order gives a bound, and the least of these is within a
-- thousandth of a per cent of the least of all.
CREATE FUNCTION governance.zcdp_epsilon(rho double precision, delta double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$
    SELECT CASE
        WHEN rho = 0 THEN 0
        WHEN delta <= 0 THEN 'infinity'
        ELSE (
            SELECT greatest(0, min((1 + x) * rho + (-ln(delta) - (1 + x) * ln(1 + 1 / x) - ln(x)) / x))
            FROM (SELECT sqrt(-ln(delta) / rho) * exp(step / 100.0) AS x FROM generate_series(-300, 300) AS step) orders
        )
    END
$$;
COMMENT ON FUNCTION governance.zcdp_epsilon(double precision, double precision) IS
    'The epsilon that a release of so much zero-concentrated differential privacy has at this delta.';
REVOKE EXECUTE ON FUNCTION governance.zcdp_epsilon(double precision, double precision) FROM PUBLIC;

-- What stands in a table released with differential privacy, and how good it was said to be.
CREATE TABLE governance.private_releases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    released_at timestamptz NOT NULL DEFAULT now(),
    run_id text NOT NULL,
    target text NOT NULL,
    stands jsonb NOT NULL CHECK (jsonb_typeof(stands) = 'object'),
    plan jsonb NOT NULL CHECK (jsonb_typeof(plan) = 'object')
);
CREATE INDEX ON governance.private_releases (target, id);
COMMENT ON TABLE governance.private_releases IS 'Every release with differential privacy and the plan it was made by. No PII.';
COMMENT ON COLUMN governance.private_releases.id IS 'Order of release.';
COMMENT ON COLUMN governance.private_releases.released_at IS 'When the transaction that published it began.';
COMMENT ON COLUMN governance.private_releases.run_id IS 'Run that released it.';
COMMENT ON COLUMN governance.private_releases.target IS 'Table released.';
COMMENT ON COLUMN governance.private_releases.stands IS
    'Every period in the table since then (a day, or whole) to the fingerprint of what was asked of what.';
COMMENT ON COLUMN governance.private_releases.plan IS
    'Unit, bounds, and of each measure the mechanism, sensitivity, scale, epsilon and promised error.';

-- Compared with the exact figures, so not private: for compliance, never for analysts.
CREATE TABLE governance.private_utility (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    measured_at timestamptz NOT NULL DEFAULT now(),
    target text NOT NULL,
    run_id text NOT NULL,
    measure text NOT NULL,
    people_from bigint NOT NULL CHECK (people_from >= 0),
    cells bigint NOT NULL CHECK (cells >= 0),
    hidden bigint NOT NULL CHECK (hidden >= 0),
    promised_error double precision,
    measured_error double precision,
    within_promise double precision CHECK (within_promise BETWEEN 0 AND 1),
    median_relative_error double precision
);
CREATE INDEX ON governance.private_utility (target, id);
COMMENT ON TABLE governance.private_utility IS
    'Released figures held against the exact ones. Not differentially private itself: compliance only.';
COMMENT ON COLUMN governance.private_utility.id IS 'Number of the row.';
COMMENT ON COLUMN governance.private_utility.measured_at IS 'When it was measured.';
COMMENT ON COLUMN governance.private_utility.target IS 'Table looked at.';
COMMENT ON COLUMN governance.private_utility.run_id IS 'Run that had released what stood in it.';
COMMENT ON COLUMN governance.private_utility.measure IS 'Measure.';
COMMENT ON COLUMN governance.private_utility.people_from IS
    'Only groups of at least so many people, and of fewer than the next row of the measure.';
COMMENT ON COLUMN governance.private_utility.cells IS 'Groups compared.';
COMMENT ON COLUMN governance.private_utility.hidden IS 'Groups that are in the data, and are not shown.';
COMMENT ON COLUMN governance.private_utility.promised_error IS 'Median of the 95 % errors promised with the release: noise alone.';
COMMENT ON COLUMN governance.private_utility.measured_error IS
    'The 95th percentile of the absolute errors against the exact figures: noise, and what bounding took.';
COMMENT ON COLUMN governance.private_utility.within_promise IS 'Share of the groups whose error was within the promise.';
COMMENT ON COLUMN governance.private_utility.median_relative_error IS 'Median of error divided by exact figure, where that is not zero.';

REVOKE INSERT ON governance.privacy_budget FROM privacy_pipeline;
GRANT INSERT (dataset, privacy_unit, epsilon, delta, mechanism, fingerprint, run_id, target, period, rho, rho_delta,
              composition, total_epsilon, total_delta) ON governance.privacy_budget TO privacy_pipeline;
GRANT SELECT, INSERT ON governance.private_releases, governance.private_utility TO privacy_pipeline;
GRANT SELECT ON governance.privacy_accounts, governance.private_releases, governance.private_utility TO privacy_compliance;
GRANT EXECUTE ON FUNCTION governance.lock_account(text, text) TO privacy_pipeline;
GRANT EXECUTE ON FUNCTION governance.zcdp_epsilon(double precision, double precision) TO privacy_pipeline, privacy_compliance;

-- These showed exact figures of the tables below the aggregates; they are made anew as sums over the aggregates.
DROP VIEW IF EXISTS analytics.v_recent_events, analytics.v_subscription_metrics;
