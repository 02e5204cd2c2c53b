"""What experiments show."""
