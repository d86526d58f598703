"""What the relay costs, measured beside nginx and the ordinary ways to write such a relay.

`python -m bench` measures (or `make bench`), `python -m bench.growth` looks at how the cost grows with
the streams. bench/README.md tells what is measured and how.
"""
