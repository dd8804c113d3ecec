-- requires: analytics.event_windows
CREATE VIEW analytics.v_event_windows_last_hour WITH (security_barrier) AS
SELECT window_start, event_type, device_type, events, unique_users, is_final
FROM analytics.event_windows
WHERE window_start > (SELECT max(window_start) - interval '1 hour' FROM analytics.event_windows);
COMMENT ON VIEW analytics.v_event_windows_last_hour IS 'Events of the last hour of the data by minute, type and device; no group of fewer than 5 people.';
COMMENT ON COLUMN analytics.v_event_windows_last_hour.window_start IS 'First instant of the minute (UTC).';
COMMENT ON COLUMN analytics.v_event_windows_last_hour.event_type IS 'Type of event.';
COMMENT ON COLUMN analytics.v_event_windows_last_hour.device_type IS 'Type of device.';
COMMENT ON COLUMN analytics.v_event_windows_last_hour.events IS 'Events.';
COMMENT ON COLUMN analytics.v_event_windows_last_hour.unique_users IS 'Distinct users.';
COMMENT ON COLUMN analytics.v_event_windows_last_hour.is_final IS 'Whether the minute can still change.';
