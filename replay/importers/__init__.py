"""Results of other load tools → runs: one module per tool, each from a file to a `ForeignRun`.

They stand above the engine, whose run format they write, and below analysis, which reads their runs like any
other. Nothing is made up here: what a tool does not say is null in the run, and named in its notes. Traces of
other tools, which are what is to be sent and not what came of it, are imported by `capture.importers`.
"""
