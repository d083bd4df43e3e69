-- Did the generator keep up? Lateness (sent − due) in µs by worker; a busy worker is late where much is in flight.
-- duckdb -cmd "SET VARIABLE run = 'runs/a.parquet'" < samples/queries/lateness.sql
SELECT
    worker,
    count(*) AS sent,
    round(quantile_cont(sent_ns - due_ns, 0.50) / 1e3, 1) AS lateness_p50_us,
    round(quantile_cont(sent_ns - due_ns, 0.99) / 1e3, 1) AS lateness_p99_us,
    round(max(sent_ns - due_ns) / 1e3, 1) AS lateness_max_us,
    round(arg_max(due_ns, sent_ns - due_ns) / 1e9, 3) AS latest_due_s,
    round(corr(sent_ns - due_ns, in_flight), 3) AS correlation_with_in_flight,
    max(in_flight) AS in_flight_max
FROM read_parquet(getvariable('run'))
WHERE sent_ns IS NOT NULL
GROUP BY worker
ORDER BY worker;
