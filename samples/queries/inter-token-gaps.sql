-- How evenly do tokens come? Gaps between successive reads that held generated content (ITL) in ms, by model.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/inter-token-gaps.sql
WITH piece AS (
    SELECT request_id, copy, model, unnest(chunk_ns) AS read_ns, unnest(chunk_tokens) AS tokens
    FROM read_parquet(getvariable('run'))
    WHERE error IS NULL AND status BETWEEN 200 AND 299 AND stream AND end_ns IS NOT NULL
), gap AS (
    SELECT
        model,
        tokens,
        (read_ns - lag(read_ns) OVER (PARTITION BY request_id, copy ORDER BY read_ns)) / 1e6 AS gap_ms
    FROM piece
    WHERE tokens > 0
)
SELECT
    model,
    count(gap_ms) AS gaps,
    round(quantile_cont(gap_ms, 0.50), 3) AS itl_p50_ms,
    round(quantile_cont(gap_ms, 0.95), 3) AS itl_p95_ms,
    round(quantile_cont(gap_ms, 0.99), 3) AS itl_p99_ms,
    round(max(gap_ms), 3) AS itl_max_ms,
    round(avg(tokens), 3) AS tokens_per_read
FROM gap
GROUP BY model
ORDER BY gaps DESC, model;
