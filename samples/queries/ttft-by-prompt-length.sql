-- Does a longer prompt wait longer for its first token? TTFT in ms from due, by powers of two of input tokens.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/ttft-by-prompt-length.sql
WITH streamed AS (
    SELECT
        CAST(2 ** floor(log2(input_tokens)) AS BIGINT) AS input_tokens_from,
        (first_token_ns - due_ns) / 1e6 AS ttft_ms
    FROM read_parquet(getvariable('run'))
    WHERE error IS NULL AND status BETWEEN 200 AND 299 AND stream AND end_ns IS NOT NULL
        AND first_token_ns IS NOT NULL AND input_tokens > 0
)
SELECT
    input_tokens_from,
    2 * input_tokens_from - 1 AS input_tokens_to,
    count(*) AS requests,
    round(quantile_cont(ttft_ms, 0.50), 3) AS ttft_p50_ms,
    round(quantile_cont(ttft_ms, 0.90), 3) AS ttft_p90_ms,
    round(quantile_cont(ttft_ms, 0.99), 3) AS ttft_p99_ms
FROM streamed
GROUP BY input_tokens_from
ORDER BY input_tokens_from;
