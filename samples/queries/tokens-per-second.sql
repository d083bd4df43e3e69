-- How many output tokens came in each second? The server's own count, spread over a stream's reads as content came.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/tokens-per-second.sql
WITH answer AS (
    SELECT *, list_sum(chunk_tokens) AS events
    FROM read_parquet(getvariable('run'))
    WHERE output_tokens > 0 AND end_ns IS NOT NULL
), piece AS (
    SELECT
        model,
        unnest(CASE WHEN events > 0 THEN chunk_ns ELSE [end_ns] END) AS at_ns,
        unnest(
            CASE
                WHEN events > 0 THEN list_transform(chunk_tokens, lambda n: output_tokens * n / events)
                ELSE [CAST(output_tokens AS DOUBLE)]
            END
        ) AS tokens
    FROM answer
)
SELECT at_ns // 1000000000 AS at_s, model, round(sum(tokens), 1) AS output_tokens
FROM piece
GROUP BY at_s, model
HAVING sum(tokens) > 0
ORDER BY at_s, model;
