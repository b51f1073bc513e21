"""Experiments on real data. Each is a command that writes JSON into results/, from which `make results`
renders docs/results.md. They need the images, which the repo does not hold.
"""
