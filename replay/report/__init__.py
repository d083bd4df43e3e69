"""Report: analysis values → terminal, HTML, JSON. Computes nothing."""
