-- requires: analytics.daily_event_metrics
CREATE VIEW analytics.v_recent_events WITH (security_barrier) AS
SELECT event_date,
       event_type,
       device_type,
       sum(total_events)::bigint AS total_events,
       sum(unique_users)::bigint AS unique_users
FROM analytics.daily_event_metrics
WHERE event_date >= (SELECT max(event_date) - 6 FROM analytics.daily_event_metrics)
GROUP BY 1, 2, 3;
COMMENT ON VIEW analytics.v_recent_events IS 'Events of the last seven days of daily_event_metrics by day, type and device: sums over the regions shown there, as protected as these.';
COMMENT ON COLUMN analytics.v_recent_events.event_date IS 'UTC day.';
COMMENT ON COLUMN analytics.v_recent_events.event_type IS 'Type of event.';
COMMENT ON COLUMN analytics.v_recent_events.device_type IS 'Type of device.';
COMMENT ON COLUMN analytics.v_recent_events.total_events IS 'Events.';
COMMENT ON COLUMN analytics.v_recent_events.unique_users IS 'Distinct users: each is of one region.';
