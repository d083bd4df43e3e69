-- How many requests met the SLO, of all scheduled? Bounds from due; ttft_ms (500) is asked of streams, e2e_ms (5000) of all.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'; SET VARIABLE ttft_ms = 300; SET VARIABLE e2e_ms = 4000" < samples/queries/goodput.sql
WITH request AS (
    SELECT
        endpoint,
        due_ns,
        coalesce(
            error IS NULL AND (status BETWEEN 200 AND 299 OR status = 304)
                AND end_ns - due_ns <= coalesce(getvariable('e2e_ms'), 5000) * 1e6
                AND (NOT stream OR first_token_ns - due_ns <= coalesce(getvariable('ttft_ms'), 500) * 1e6),
            false
        ) AS good
    FROM read_parquet(getvariable('run'))
), length AS (
    SELECT (max(due_ns) - min(due_ns)) / 1e9 AS run_s FROM request
)
SELECT
    coalesce(endpoint, 'all') AS endpoint,
    count(*) AS scheduled,
    count(*) FILTER (WHERE good) AS good,
    round(count(*) FILTER (WHERE good) / count(*), 4) AS slo_attainment,
    round(count(*) FILTER (WHERE good) / nullif(any_value(run_s), 0), 3) AS goodput_per_s
FROM request, length
GROUP BY ROLLUP (request.endpoint)
ORDER BY scheduled DESC, endpoint;
