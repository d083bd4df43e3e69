-- How long did users wait, by endpoint? Percentiles of E2E and TTFT in ms from due, free of coordinated omission.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/latency-by-endpoint.sql
WITH answered AS (
    SELECT
        endpoint,
        (end_ns - due_ns) / 1e6 AS e2e_ms,
        CASE WHEN stream THEN (first_token_ns - due_ns) / 1e6 END AS ttft_ms
    FROM read_parquet(getvariable('run'))
    WHERE error IS NULL AND (status BETWEEN 200 AND 299 OR status = 304) AND end_ns IS NOT NULL
)
SELECT
    endpoint,
    count(*) AS answered,
    round(quantile_cont(e2e_ms, 0.50), 3) AS e2e_p50_ms,
    round(quantile_cont(e2e_ms, 0.95), 3) AS e2e_p95_ms,
    round(quantile_cont(e2e_ms, 0.99), 3) AS e2e_p99_ms,
    round(max(e2e_ms), 3) AS e2e_max_ms,
    round(quantile_cont(ttft_ms, 0.50), 3) AS ttft_p50_ms,
    round(quantile_cont(ttft_ms, 0.95), 3) AS ttft_p95_ms,
    round(quantile_cont(ttft_ms, 0.99), 3) AS ttft_p99_ms
FROM answered
GROUP BY endpoint
ORDER BY answered DESC, endpoint;
