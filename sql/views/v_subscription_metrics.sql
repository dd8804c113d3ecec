-- requires: analytics.user_cohorts
CREATE VIEW analytics.v_subscription_metrics WITH (security_barrier) AS
SELECT subscription_tier,
       region,
       sum(total_users)::bigint AS total_users,
       sum(total_revenue) / nullif(sum(total_users) FILTER (WHERE total_revenue IS NOT NULL), 0) AS avg_lifetime_value,
       sum(avg_purchases * total_users) / nullif(sum(total_users) FILTER (WHERE avg_purchases IS NOT NULL), 0) AS avg_purchases,
       sum(total_revenue) AS total_revenue
FROM analytics.user_cohorts
GROUP BY 1, 2;
COMMENT ON VIEW analytics.v_subscription_metrics IS 'Users and their value by tier and region: sums over the cohorts shown in user_cohorts, as protected as these.';
COMMENT ON COLUMN analytics.v_subscription_metrics.subscription_tier IS 'Subscription tier.';
COMMENT ON COLUMN analytics.v_subscription_metrics.region IS 'Region.';
COMMENT ON COLUMN analytics.v_subscription_metrics.total_users IS 'Users.';
COMMENT ON COLUMN analytics.v_subscription_metrics.avg_lifetime_value IS 'Mean revenue a user.';
COMMENT ON COLUMN analytics.v_subscription_metrics.avg_purchases IS 'Mean number of purchases a user.';
COMMENT ON COLUMN analytics.v_subscription_metrics.total_revenue IS 'Revenue.';
