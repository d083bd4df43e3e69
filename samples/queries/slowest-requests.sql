-- Which requests were slowest, and where did their time go? The 20 with the longest E2E from due, stretch by stretch.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/slowest-requests.sql
SELECT
    request_id,
    copy,
    endpoint,
    phase,
    round(due_ns / 1e9, 3) AS due_s,
    round((end_ns - due_ns) / 1e6, 3) AS e2e_ms,
    round((sent_ns - due_ns) / 1e6, 3) AS lateness_ms,
    round((first_byte_ns - sent_ns) / 1e6, 3) AS sent_to_first_byte_ms,
    round((first_token_ns - first_byte_ns) / 1e6, 3) AS first_byte_to_first_token_ms,
    round((end_ns - coalesce(first_token_ns, first_byte_ns)) / 1e6, 3) AS then_to_end_ms,
    len(chunk_ns) AS reads,
    input_tokens,
    output_tokens,
    in_flight,
    connection_reused
FROM read_parquet(getvariable('run'))
WHERE error IS NULL AND (status BETWEEN 200 AND 299 OR status = 304) AND end_ns IS NOT NULL
ORDER BY end_ns - due_ns DESC, request_id, copy
LIMIT 20;
