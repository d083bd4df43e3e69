-- What did each phase of the schedule do to the service? Load, failures, shed load and E2E in ms from due.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/by-phase.sql
WITH request AS (
    SELECT
        *,
        coalesce(error IS NULL AND (status BETWEEN 200 AND 299 OR status = 304), false) AS ok,
        (end_ns - due_ns) / 1e6 AS e2e_ms
    FROM read_parquet(getvariable('run'))
)
SELECT
    phase,
    round(min(due_ns) / 1e9, 3) AS first_due_s,
    round(max(due_ns) / 1e9, 3) AS last_due_s,
    count(*) AS scheduled,
    count(*) FILTER (WHERE ok) AS answered,
    count(*) FILTER (WHERE NOT ok AND error IS DISTINCT FROM 'aborted') AS failed,
    count(*) FILTER (WHERE status IN (429, 503)) AS shed,
    round(quantile_cont(e2e_ms, 0.50) FILTER (WHERE ok), 3) AS e2e_p50_ms,
    round(quantile_cont(e2e_ms, 0.99) FILTER (WHERE ok), 3) AS e2e_p99_ms,
    max(in_flight) AS in_flight_of_a_worker_max
FROM request
GROUP BY phase
ORDER BY first_due_s;
