-- requires: anonymized.anonymized_users
CREATE VIEW anonymized.v_user_overview WITH (security_barrier) AS
SELECT user_token,
       region,
       age_bucket,
       gender,
       subscription_tier,
       lifetime_value,
       total_purchases,
       current_date - created_at::date AS account_age_days,
       current_date - last_login::date AS days_since_login
FROM anonymized.anonymized_users
WHERE account_status = 'active';
COMMENT ON VIEW anonymized.v_user_overview IS 'Active users with the age of their account and the days since their last login. Pseudonymous: still personal data.';
COMMENT ON COLUMN anonymized.v_user_overview.user_token IS 'Token of the user. [PII: user_id, sensitivity low]';
COMMENT ON COLUMN anonymized.v_user_overview.region IS 'Region of the city. [PII: city, sensitivity low]';
COMMENT ON COLUMN anonymized.v_user_overview.age_bucket IS 'Age range in years. [PII: age, sensitivity low]';
COMMENT ON COLUMN anonymized.v_user_overview.gender IS 'Gender as given. [PII: gender, sensitivity low]';
COMMENT ON COLUMN anonymized.v_user_overview.subscription_tier IS 'Subscription tier.';
COMMENT ON COLUMN anonymized.v_user_overview.lifetime_value IS 'Revenue from the user so far.';
COMMENT ON COLUMN anonymized.v_user_overview.total_purchases IS 'Number of purchases so far.';
COMMENT ON COLUMN anonymized.v_user_overview.account_age_days IS 'Days since the account was created.';
COMMENT ON COLUMN anonymized.v_user_overview.days_since_login IS 'Days since the last login.';
GRANT SELECT ON anonymized.v_user_overview TO privacy_analyst, privacy_linkage;
