"""Amplification that keeps the burst curve: what is measured, which shifts clones get, by which method.

`spectrum` measures arrivals, `shifts` says how far clones move, `curve_fit` finds the shifts that reach the
burst curve of f times as many users, `crowd_fit` those that depend on how crowded it is, `choice` decides on
a method and says why, `methods` are the steps, and `holdout` checks it all against real traffic that was held
out.
"""
