"""The bench: this product, a script of one afternoon and dlt, in turn, on one world of the emulator. `make bench` runs it; see docs/benchmarks.md."""
