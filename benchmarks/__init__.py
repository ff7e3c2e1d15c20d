"""Time and memory beside a plain re-statement of the public notebook's U-Net half: `python -m benchmarks.run`."""
