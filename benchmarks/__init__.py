"""Programs that measure, and write what they measured with how it came about. Run as `python -m benchmarks.NAME`."""
