"""The parts of the benchmark runner."""
