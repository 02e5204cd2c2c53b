"""What unlearning runs did."""
