-- requires: anonymized.anonymized_events
CREATE VIEW analytics.v_recent_events WITH (security_barrier) AS
SELECT (timestamp AT TIME ZONE 'UTC')::date AS event_date,
       event_type,
       device_type,
       count(*) AS total_events,
       count(DISTINCT user_token) AS unique_users
FROM anonymized.anonymized_events
WHERE timestamp >= (SELECT date_trunc('day', max(timestamp), 'UTC') - interval '6 days' FROM anonymized.anonymized_events)
GROUP BY 1, 2, 3
HAVING count(DISTINCT user_token) >= 5;
COMMENT ON VIEW analytics.v_recent_events IS 'Events of the last seven days of the data by day, type and device; no group of fewer than 5 people.';
COMMENT ON COLUMN analytics.v_recent_events.event_date IS 'UTC day.';
COMMENT ON COLUMN analytics.v_recent_events.event_type IS 'Type of event.';
COMMENT ON COLUMN analytics.v_recent_events.device_type IS 'Type of device.';
COMMENT ON COLUMN analytics.v_recent_events.total_events IS 'Events.';
COMMENT ON COLUMN analytics.v_recent_events.unique_users IS 'Distinct users.';
