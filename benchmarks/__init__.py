"""Speed and memory, measured side by side with what they are compared with; nothing here is a test."""
