-- requires: anonymized.anonymized_users
CREATE VIEW analytics.v_subscription_metrics WITH (security_barrier) AS
SELECT subscription_tier,
       region,
       count(DISTINCT user_token) AS total_users,
       avg(lifetime_value) AS avg_lifetime_value,
       avg(total_purchases)::double precision AS avg_purchases,
       sum(lifetime_value) AS total_revenue
FROM anonymized.anonymized_users
GROUP BY 1, 2
HAVING count(DISTINCT user_token) >= 5;
COMMENT ON VIEW analytics.v_subscription_metrics IS 'Users and their value by tier and region; no group of fewer than 5 people.';
COMMENT ON COLUMN analytics.v_subscription_metrics.subscription_tier IS 'Subscription tier.';
COMMENT ON COLUMN analytics.v_subscription_metrics.region IS 'Region.';
COMMENT ON COLUMN analytics.v_subscription_metrics.total_users IS 'Users.';
COMMENT ON COLUMN analytics.v_subscription_metrics.avg_lifetime_value IS 'Mean revenue a user.';
COMMENT ON COLUMN analytics.v_subscription_metrics.avg_purchases IS 'Mean number of purchases a user.';
COMMENT ON COLUMN analytics.v_subscription_metrics.total_revenue IS 'Revenue.';
