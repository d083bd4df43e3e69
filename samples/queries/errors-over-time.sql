-- When did requests fail, and how? Second by second of due time, failures by kind. A recorded hang-up is no failure.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/errors-over-time.sql
WITH request AS (
    SELECT
        due_ns // 1000000000 AS due_s,
        CASE
            WHEN error IS NOT NULL THEN error
            WHEN status BETWEEN 200 AND 299 OR status = 304 THEN NULL
            ELSE coalesce(CAST(status AS VARCHAR), 'no status')
        END AS failure
    FROM read_parquet(getvariable('run'))
    WHERE error IS DISTINCT FROM 'aborted'
)
SELECT
    due_s,
    count(*) AS scheduled,
    count(failure) AS failed,
    round(count(failure) / count(*), 4) AS error_rate,
    count(*) FILTER (WHERE failure IN ('429', '503')) AS shed,
    string_agg(DISTINCT failure, ', ' ORDER BY failure) AS kinds
FROM request
GROUP BY due_s
ORDER BY due_s;
