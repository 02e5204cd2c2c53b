"""What the page Learn teaches, read from the demo's finished runs; each step ends with what they show."""
