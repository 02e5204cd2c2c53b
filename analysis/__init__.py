"""Frames in, frames and figures out: what the measured numbers mean. Loads no torch and no streamlit."""
