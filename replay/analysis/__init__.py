"""Analysis: runs → metrics, validity, statistics, verdicts. Functions of values; prints nothing, no I/O."""
