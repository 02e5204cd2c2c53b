"""Tables, pages and reports to take away."""
