"""What is true and what should happen: pure functions of values, no I/O, no clock, no framework."""
