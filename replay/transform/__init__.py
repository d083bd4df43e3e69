"""Transform: Trace → Schedule. Pure functions of arrays, plus the Schedule's file format."""
