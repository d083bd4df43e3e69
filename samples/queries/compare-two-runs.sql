-- What changed between two runs of one schedule, request by request? (`peaktape diff` says whether it is chance.)
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'; SET VARIABLE other = 'runs/b.parquet'" < samples/queries/compare-two-runs.sql
WITH run AS (
    SELECT *, coalesce(error IS NULL AND (status BETWEEN 200 AND 299 OR status = 304), false) AS ok
    FROM read_parquet(getvariable('run'))
), other AS (
    SELECT *, coalesce(error IS NULL AND (status BETWEEN 200 AND 299 OR status = 304), false) AS ok
    FROM read_parquet(getvariable('other'))
), pair AS (
    SELECT
        run.endpoint,
        run.ok AND other.ok AS both_ok,
        run.ok AND NOT other.ok AS newly_failed,
        other.ok AND NOT run.ok AS no_longer_failed,
        CASE WHEN both_ok THEN (run.end_ns - run.due_ns) / 1e6 END AS run_e2e_ms,
        CASE WHEN both_ok THEN (other.end_ns - other.due_ns) / 1e6 END AS other_e2e_ms
    FROM run JOIN other USING (request_id, copy)
)
SELECT
    endpoint,
    count(*) AS pairs,
    count(*) FILTER (WHERE newly_failed) AS newly_failed,
    count(*) FILTER (WHERE no_longer_failed) AS no_longer_failed,
    round(median(run_e2e_ms), 3) AS run_e2e_p50_ms,
    round(median(other_e2e_ms), 3) AS other_e2e_p50_ms,
    round(median(other_e2e_ms - run_e2e_ms), 3) AS median_change_ms,
    round(count(*) FILTER (WHERE other_e2e_ms > 1.1 * run_e2e_ms) / nullif(count(other_e2e_ms), 0), 4) AS share_slower_by_tenth,
    round(count(*) FILTER (WHERE other_e2e_ms < run_e2e_ms / 1.1) / nullif(count(other_e2e_ms), 0), 4) AS share_faster_by_tenth
FROM pair
GROUP BY endpoint
ORDER BY pairs DESC, endpoint;
