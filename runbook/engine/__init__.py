"""Runs notebooks as steps of a plan, and keeps the evidence of a run."""
